#include "procrun/cli/chart_library.hpp"

#include <cstddef>

// The file's bytes, between two symbols; where the file is comes from the build.
asm(R"(
    .pushsection .rodata
    .global procrun_chart_library_begin
    .global procrun_chart_library_end
procrun_chart_library_begin:
    .incbin ")" PROCRUN_CHART_LIBRARY R"("
procrun_chart_library_end:
    .popsection
)");

extern "C" const char procrun_chart_library_begin[];  // NOLINT(readability-identifier-naming)
extern "C" const char procrun_chart_library_end[];    // NOLINT(readability-identifier-naming)

namespace procrun::cli {

std::string_view chart_library() noexcept {
    return {procrun_chart_library_begin,
            static_cast<std::size_t>(procrun_chart_library_end - procrun_chart_library_begin)};
}

}  // namespace procrun::cli
