#pragma once

#include <string_view>

namespace procrun::cli {

/// Chart.js 3, as Debian packages it (libjs-chart.js): part of this program, so that a page needs no network.
[[nodiscard]] std::string_view chart_library() noexcept;

}  // namespace procrun::cli
