#include "vmcow/cli/kit/html_assets.hpp"

#include "vmcow/cli/kit/embedded_file.hpp"

VMCOW_EMBEDDED_FILE(library, VMCOW_CHART_LIBRARY)
VMCOW_EMBEDDED_FILE(style, VMCOW_PAGE_FILES "/html_document.css")
VMCOW_EMBEDDED_FILE(script, VMCOW_PAGE_FILES "/html_document.js")

namespace vmcow::cli {

std::string_view chart_library() noexcept { return library_file(); }
std::string_view document_style() noexcept { return style_file(); }
std::string_view document_script() noexcept { return script_file(); }

}  // namespace vmcow::cli
