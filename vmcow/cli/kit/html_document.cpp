#include "vmcow/cli/kit/html_document.hpp"

#include "vmcow/cli/kit/html_assets.hpp"

namespace vmcow::cli {
namespace {

/// Writes each `<` as an escape: in JSON it stands in strings alone, where the escape means the same.
std::string without_markup(std::string_view json) {
    std::string text;
    text.reserve(json.size());
    for (const char c : json) {
        if (c == '<') {
            text += "\\u003c";
        } else {
            text += c;
        }
    }
    return text;
}

}  // namespace

std::string escape_html(std::string_view text) {
    std::string html;
    html.reserve(text.size());
    for (const char c : text) {
        switch (c) {
            case '&':
                html += "&amp;";
                break;
            case '<':
                html += "&lt;";
                break;
            case '>':
                html += "&gt;";
                break;
            case '"':
                html += "&quot;";
                break;
            case '\'':
                html += "&#39;";
                break;
            default:
                html += c;
        }
    }
    return html;
}

std::string html_document(const HtmlParts& parts) {
    std::string page =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>";
    page.append(escape_html(parts.title)).append("</title>\n<style>\n").append(document_style());
    page.append("</style></head><body>\n").append(parts.body);
    page.append("<script type=\"application/json\" id=\"data\">").append(without_markup(parts.json));
    page.append("</script>\n<script>").append(chart_library()).append("</script>\n<script>\n'use strict';\n");
    page.append(document_script()).append(parts.script).append("</script>\n</body></html>\n");
    return page;
}

}  // namespace vmcow::cli
