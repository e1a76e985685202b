#include "vmcow/cli/measure/measure_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/meter/run/run_children.hpp"
#include "vmcow/meter/run/run_workload.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace vmcow::cli {
namespace {

using meter::ViewRun;
using meter::Workload;
using meter::WrittenImage;
using sys::PageScanMethod;

/// The number of views that exist at once, or of views that take as much memory as the levels.
std::uint64_t views_at_once(const MeasureOptions& options) {
    return std::max(options.children, options.levels > 1 ? meter::views_of_levels(options.levels) : 1);
}

/// Refuses now, before the kernel kills this process or another one half way.
void check_memory(const MeasureOptions& options) {
    const std::uint64_t most = *std::max_element(options.writes.begin(), options.writes.end());
    const std::uint64_t needed = meter::memory_needed(options.workload_of(most), views_at_once(options));
    const std::optional<std::uint64_t> available = sys::read_proc_bytes("/proc/meminfo", "MemAvailable");
    if (!available || needed <= *available) return;
    throw Failure(
        fmt::format("an image of {} needs up to {} of memory with its copies, {} are available; choose a "
                    "smaller --size, or fewer --children or --levels",
                    human_bytes(options.workload.size_bytes), human_bytes(needed), human_bytes(*available)));
}

PageScanMethod choose_page_scan(const std::optional<PageScanMethod>& wanted) {
    if (!wanted) return sys::best_page_scan();
    const int error = *wanted == PageScanMethod::pagemap_scan ? sys::page_scan_error() : 0;
    if (error == 0) return *wanted;
    throw Failure(fmt::format("--page-scan: PAGEMAP_SCAN (Linux 6.7) is refused here: {}; choose auto or pagemap",
                              std::strerror(error)),
                  ExitCode::missing_facility);
}

WrittenImage make_image(const MeasureOptions& options) {
    const ImageIn in = options.image_in();
    WrittenImage image =
        meter::make_image(options.workload, in == ImageIn::small ? PagePolicy::small : PagePolicy::automatic);
    if (in == ImageIn::huge && image.pages.collapse_error != 0) {
        throw Failure(fmt::format("--huge-pages: {} of the image are in 4 KiB pages: MADV_COLLAPSE (Linux 6.1) was "
                                  "refused: {}",
                                  human_bytes(image.pages.small_bytes), std::strerror(image.pages.collapse_error)),
                      ExitCode::missing_facility);
    }
    return image;
}

void measure_children(const MeasureOptions& options, const WrittenImage& image, MeasureResult& result) {
    result.children = meter::run_children(options.workload, options.children, image, result.page_scan);
    result.total = meter::sum_of(result.children);
    result.what_if = meter::what_if(result.children.front().blocks, result.children.front().figures.logical_bytes);
    meter::add_children(result.what_if, result.total.blocks);
}

void measure_levels(const MeasureOptions& options, const WrittenImage& image, MeasureResult& result) {
    result.levels = meter::run_levels(options.workload, options.levels, image, result.page_scan);
    std::vector<ViewRun> runs;
    std::uint64_t written = 0;
    double seconds = 0;
    for (const meter::LevelRun& level : result.levels) {
        runs.push_back(level.run);
        written += level.written().value;
        seconds += level.run.seconds;
    }
    result.total = meter::sum_of(runs);
    result.total.seconds = seconds;  // the levels run one after the other
    result.residual = residual_sigma(result.total.expected, written);
    result.what_if = meter::what_if(runs.front().blocks, runs.front().figures.logical_bytes);
}

void measure_views(const MeasureOptions& options, const WrittenImage& image, MeasureResult& result) {
    for (const std::uint64_t writes : options.writes) {
        result.sweep.push_back(meter::run_workload(options.workload_of(writes), image, result.page_scan));
    }
    result.total = result.sweep.back();
    if (result.sweep.size() == 1) result.sweep.clear();
    result.what_if = meter::what_if(result.total.blocks, result.total.figures.logical_bytes);
    if (options.resident) result.resident = meter::run_resident(options.workload, image, result.page_scan);
}

/// Adds a note where two ways of counting differ.
void note_disagreement(const ViewRun& run, std::uint64_t placed, std::vector<std::string>& notes) {
    const std::uint64_t private_bytes = run.figures.copied_bytes() + placed * kPageBytes;
    if (run.anonymous_bytes != private_bytes) {
        notes.push_back(fmt::format("smaps has {} of private pages, the page scan {}: some may be swapped out",
                                    human_bytes(run.anonymous_bytes), human_bytes(private_bytes)));
    }
    if (run.minor_faults != run.figures.copied.value) {
        notes.push_back(fmt::format("{} page faults for {} pages copied: something else faulted meanwhile",
                                    human_count(run.minor_faults), human_count(run.figures.copied.value)));
    }
}

std::vector<std::string> notes_on(const MeasureOptions& options, const MeasureResult& result) {
    std::vector<std::string> notes;
    if (result.image.collapse_error != 0) {
        notes.push_back(fmt::format("{} of the image are in 4 KiB pages: MADV_COLLAPSE was refused: {}",
                                    human_bytes(result.image.small_bytes), std::strerror(result.image.collapse_error)));
    }
    if (options.small_pages) notes.emplace_back("the image is in 4 KiB pages, as --small-pages asks");
    if (result.page_scan == PageScanMethod::pagemap_bits && sys::page_scan_error() != 0) {
        notes.push_back(fmt::format("pages were counted by the bits of pagemap: PAGEMAP_SCAN was refused: {}",
                                    std::strerror(sys::page_scan_error())));
    }
    std::uint64_t placed = 0;
    for (const meter::LevelRun& level : result.levels) placed += level.placed.value;
    note_disagreement(result.total, placed, notes);
    if (!result.total.expected.sigma)
        notes.emplace_back("the deviation takes too long to compute for writes this long");
    return notes;
}

BudgetFigures figures_of(const ViewRun& run) {
    std::optional<std::uint64_t> identical;
    if (run.figures.identical) identical = run.figures.identical->value;
    return {run.figures.copied_bytes(), run.figures.amplification(),
            identical_share(identical, run.figures.copied.value)};
}

}  // namespace

std::size_t MeasureResult::image_page_bytes() const noexcept {
    return image.huge_bytes > 0 && image.small_bytes == 0 ? kHugeBytes : kPageBytes;
}

std::optional<std::uint64_t> MeasureResult::memory_bytes() const noexcept {
    if (!total.figures.page_table_bytes) return std::nullopt;
    return image.huge_bytes + image.small_bytes + total.anonymous_bytes + *total.figures.page_table_bytes;
}

std::vector<BudgetFigures> MeasureResult::figures() const {
    if (sweep.empty()) return {figures_of(total)};
    std::vector<BudgetFigures> all;
    for (const ViewRun& run : sweep) all.push_back(figures_of(run));
    return all;
}

MeasureResult run_measure(const MeasureOptions& options) {
    VMCOW_ASSERT(!options.writes.empty() && options.workload.writes == options.writes.back() &&
                 "complete() was called on the options");
    MeasureResult result;
    result.page_scan = choose_page_scan(options.page_scan);
    check_memory(options);
    const WrittenImage image = make_image(options);
    result.image = image.pages;
    if (options.levels > 1) {
        measure_levels(options, image, result);
    } else {
        if (options.children > 1) {
            measure_children(options, image, result);
        } else {
            measure_views(options, image, result);
        }
        result.residual = result.total.residual();
    }
    meter::add_model(result.what_if, options.workload);
    result.notes = notes_on(options, result);
    return result;
}

const char* describe(Preparation preparation) noexcept {
    switch (preparation) {
        case Preparation::clean:
            return "no pages were there";
        case Preparation::resident:
            return "pages were there";
        case Preparation::too_dear:
            return "mapped anew: refreshing so many pages costs more than the faults";
        case Preparation::too_many:
            return "mapped anew: more pages than the budget";
        case Preparation::unrelated:
            return "mapped anew";
    }
    return "unknown";
}

}  // namespace vmcow::cli
