#pragma once

#include <string>
#include <string_view>

namespace vmcow::cli {

/// `text` as HTML shows it, in an element or in a quoted attribute: it never becomes markup.
[[nodiscard]] std::string escape_html(std::string_view text);

/// What is particular to one page; `title` is text, `body` is HTML, `json` what its script reads.
struct PageParts {
    std::string_view title;
    std::string_view body;
    std::string_view json;
    std::string_view script;  ///< runs after page.js, with the JSON as `data`
};

/// A whole page that needs nothing but itself: its style, what it shows, and the charts' library.
/// Whatever strings the JSON holds, they do not end the element that they stand in.
[[nodiscard]] std::string page_of(const PageParts& parts);

}  // namespace vmcow::cli
