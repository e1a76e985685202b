#pragma once

#include <string_view>

namespace vmcow::cli {

// Files that the program has built in and puts into every page, so that a page needs no network.

/// Chart.js 3, as Debian packages it (libjs-chart.js).
[[nodiscard]] std::string_view chart_library() noexcept;

/// html_document.css: the style of every page, for light and dark colour schemes and for wide and narrow screens.
[[nodiscard]] std::string_view document_style() noexcept;

/// html_document.js: units, colours, and making a chart and making it anew.
[[nodiscard]] std::string_view document_script() noexcept;

}  // namespace vmcow::cli
