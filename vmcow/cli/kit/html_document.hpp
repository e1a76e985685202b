#pragma once

#include <string>
#include <string_view>

namespace vmcow::cli {

/// `text` escaped for an element or a quoted attribute of HTML: no part of it becomes markup.
[[nodiscard]] std::string escape_html(std::string_view text);

/// The parts that differ from page to page: `title` is text, `body` is HTML, `json` is what `script` reads.
struct HtmlParts {
    std::string_view title;
    std::string_view body;
    std::string_view json;
    std::string_view script;  ///< runs after html_document.js, with the JSON as `data`
};

/// A whole page that needs no other file: it holds its style, its content and the chart library. No string in the JSON
/// can end the element that the JSON stands in.
[[nodiscard]] std::string html_document(const HtmlParts& parts);

}  // namespace vmcow::cli
