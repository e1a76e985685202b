#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/kit/budget.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace vmcow::cli {

/// The page size that the image is to have.
enum class ImageIn {
    any,    ///< 2 MiB as far as the kernel gives such pages; a note reports the rest
    huge,   ///< 2 MiB throughout, or an error
    small,  ///< 4 KiB
};

/// What `vmcow measure` was asked for.
struct MeasureOptions {
    meter::Workload workload;
    std::vector<std::uint64_t> writes{meter::Workload{}.writes};  ///< one run for each number
    std::optional<std::string> trace;
    std::uint64_t children = 1;
    std::uint64_t levels = 1;
    bool resident = false;
    bool small_pages = false;
    bool huge_pages = false;
    std::optional<sys::PageScanMethod> page_scan;
    bool json = false;
    Budget budget;

    [[nodiscard]] ImageIn image_in() const noexcept {
        return huge_pages ? ImageIn::huge : small_pages ? ImageIn::small : ImageIn::any;
    }
    /// The workload with this number of writes.
    [[nodiscard]] meter::Workload workload_of(std::uint64_t writes) const;
};

/// Adds the flags to the verb. Call `complete` when they have been parsed.
void add_measure_options(CLI::App& verb, MeasureOptions& options);

/// Reads the trace, if one was given, and refuses flags that make no sense together.
/// Throws: Failure -- ExitCode::usage; std::system_error -- the trace cannot be read.
void complete(MeasureOptions& options, const CLI::App& verb);

/// Parses the value of `--writes`: "1000", "1000,50000", or "1000..1000000", which is 1000, 10000 and so on in tenfold
/// steps, and the last number itself. At most 64 numbers.
/// Throws: std::invalid_argument that names the wrong word.
[[nodiscard]] std::vector<std::uint64_t> parse_sweep(std::string_view text);

}  // namespace vmcow::cli
