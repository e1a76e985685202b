#pragma once

#include <string_view>

namespace vmcow::cli {

/// What a page is made of besides its own words: files that are part of the program, so that a page needs no network.

/// Chart.js 3, as Debian packages it (libjs-chart.js).
[[nodiscard]] std::string_view chart_library() noexcept;

/// page.css: how every page of ours looks, in the light and in the dark, on a desk and on a phone.
[[nodiscard]] std::string_view page_style() noexcept;

/// page.js: units, colours and the life of a chart.
[[nodiscard]] std::string_view page_script() noexcept;

/// report_page.js: draws the charts of `vmcow report`.
[[nodiscard]] std::string_view report_script() noexcept;

}  // namespace vmcow::cli
