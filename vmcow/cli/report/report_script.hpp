#pragma once

#include <string_view>

namespace vmcow::cli {

/// report_html.js: draws the charts of `vmcow report`.
[[nodiscard]] std::string_view report_script() noexcept;

}  // namespace vmcow::cli
