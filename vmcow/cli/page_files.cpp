#include "vmcow/cli/page_files.hpp"

#include <cstddef>

// The bytes of a file, between two symbols; where the files are comes from the build.
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): an asm takes no parameters
#define VMCOW_FILE_OF_PAGE(name, path)                                                          \
    asm(".pushsection .rodata\n"                                                                \
        ".global vmcow_page_" #name "_begin\n.global vmcow_page_" #name                         \
        "_end\n"                                                                                \
        "vmcow_page_" #name "_begin: .incbin \"" path "\"\nvmcow_page_" #name                   \
        "_end:\n"                                                                               \
        ".popsection\n");                                                                       \
    extern "C" const char vmcow_page_##name##_begin[]; /* NOLINT */                             \
    extern "C" const char vmcow_page_##name##_end[];   /* NOLINT */                             \
    static std::string_view name##_file() noexcept {                                            \
        return {vmcow_page_##name##_begin,                                                      \
                static_cast<std::size_t>(vmcow_page_##name##_end - vmcow_page_##name##_begin)}; \
    }

VMCOW_FILE_OF_PAGE(library, VMCOW_CHART_LIBRARY)
VMCOW_FILE_OF_PAGE(style, VMCOW_PAGE_FILES "/page.css")
VMCOW_FILE_OF_PAGE(script, VMCOW_PAGE_FILES "/page.js")
VMCOW_FILE_OF_PAGE(report, VMCOW_PAGE_FILES "/report_page.js")

namespace vmcow::cli {

std::string_view chart_library() noexcept { return library_file(); }
std::string_view page_style() noexcept { return style_file(); }
std::string_view page_script() noexcept { return script_file(); }
std::string_view report_script() noexcept { return report_file(); }

}  // namespace vmcow::cli
