#include "vmcow/cli/report/report_script.hpp"

#include "vmcow/cli/kit/embedded_file.hpp"

VMCOW_EMBEDDED_FILE(report, VMCOW_PAGE_FILES "/report_html.js")

namespace vmcow::cli {

std::string_view report_script() noexcept { return report_file(); }

}  // namespace vmcow::cli
