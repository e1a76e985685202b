#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/budget.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow::cli {

/// Of what pages the image is to be.
enum class ImageIn {
    any,    ///< 2 MiB as far as they can be had, reported where not
    huge,   ///< 2 MiB, or not at all
    small,  ///< 4 KiB
};

/// What `vmcow measure` was asked for.
struct MeasureOptions {
    measure::Workload workload;
    std::vector<std::uint64_t> writes{measure::Workload{}.writes};  ///< several: a run of each
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
    /// The workload with one of the numbers of writes.
    [[nodiscard]] measure::Workload workload_of(std::uint64_t writes) const;
};

/// Adds the flags to the verb. Once they are parsed, `complete` is to be called.
void add_measure_options(CLI::App& verb, MeasureOptions& options);

/// Reads the trace, if there is one, and refuses what makes no sense together.
/// Throws: Failure -- ExitCode::usage; std::system_error, if the trace cannot be read.
void complete(MeasureOptions& options, const CLI::App& verb);

/// "1000", "1000,50000" or "1000..1000000", which is 1000 and each tenfold of it up to the other, with that: what
/// `--writes` takes, at most 64 of them.
/// Throws: std::invalid_argument that names the word.
[[nodiscard]] std::vector<std::uint64_t> parse_sweep(std::string_view text);

}  // namespace vmcow::cli
