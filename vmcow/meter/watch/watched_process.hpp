#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "vmcow/meter/watch/page_states.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/sys/proc/maps.hpp"
#include "vmcow/sys/proc/stat.hpp"

namespace vmcow::meter {

/// How pages are looked at. Tests can ask for each slower way.
struct PageScanOptions {
    sys::PageScanMethod method = sys::best_page_scan();
    bool use_frames = true;  ///< use page frame numbers if the kernel tells them
};

/// One process that is looked at repeatedly.
///
/// Cost:    15 ns to find a page, and 80 ns to read pagemap for a page that may still be copied. The lock of the
///          process's memory is held for at most 4096 pages at a time. Pages are judged once: 2 MiB of addresses that
///          stay unchanged, here and in the parent, cost no more than a comparison.
/// Throws:  std::system_error -- EACCES, EPERM (not ours), ENOENT, ESRCH (the process has ended), EMFILE. If the
///          process ends, executes a program or unmaps memory during a look, that is ESRCH, or a look at what is left.
class WatchedProcess {
public:
    /// Opens the pagemap. `all_new`: the process begins to run its program now, so all its pages count as allocated.
    WatchedProcess(const sys::ProcessStat& stat, const PageScanOptions& options, bool all_new);

    [[nodiscard]] pid_t pid() const noexcept { return stat_.pid; }
    [[nodiscard]] const sys::ProcessStat& stat() const noexcept { return stat_; }
    [[nodiscard]] const std::vector<sys::ProcessMapping>& mappings() const noexcept { return mappings_; }
    [[nodiscard]] const PageStates& pages() const noexcept { return pages_; }
    /// Bytes of mappings that were not looked at, because scanning them by the bits of pagemap takes too long.
    [[nodiscard]] std::uint64_t passed_over_bytes() const noexcept { return passed_over_bytes_; }
    /// Whether the process has been looked at since it last executed a program.
    [[nodiscard]] bool seen() const noexcept { return looks_ > 0; }
    [[nodiscard]] bool seen_before() const noexcept { return looks_ > 1; }

    /// Called before a look: takes in what is new, another program or more page faults. False if the process ID
    /// belongs to another process by now, or the process is a zombie.
    [[nodiscard]] bool update(const std::optional<sys::ProcessStat>& stat);
    /// Called after a look: notes whether the process had page faults since the look before this one began.
    void settle_faults(const std::optional<sys::ProcessStat>& stat) noexcept;
    [[nodiscard]] bool faulted() const noexcept { return faulted_; }

    /// Whether a look would find what the last look found, as far as this process is concerned: it has had no page
    /// fault since the last look began, and has no more and no less in memory. Pre: `update` was called.
    [[nodiscard]] bool is_quiet() const noexcept;

    /// Looks at all pages of the process. If no page of a chunk can be copied any more, neither here nor in one of
    /// `children`, and all pages were there before, the look only checks that they exist.
    void scan(std::span<const WatchedProcess* const> children);
    /// Replaces a look that would find what the last one found.
    void keep_last_scan();
    /// Whether `scan_chunks` may be called now: the mappings and the resident pages of files are what they were.
    [[nodiscard]] bool can_scan_chunks() const;
    /// Looks at the pages in `chunks` alone; all others are taken to be as they were. Pre: can_scan_chunks().
    void scan_chunks(const std::set<std::uint64_t>& chunks, std::span<const WatchedProcess* const> children);
    /// Whether `figures`, the result of the look, have as many pages as the kernel counts. If they do after
    /// `scan_chunks`, the other chunks were indeed as they were.
    [[nodiscard]] bool matches_kernel_count(const PageFigures& figures) const noexcept;
    /// Called after a look at all pages: notes how many pages the kernel counts beyond those that were found.
    void note_unaccounted(const PageFigures& figures) noexcept;
    /// What has become of the pages, compared with `parent`, which was looked at afterwards; nullptr if there is none.
    [[nodiscard]] ProcessSample judge(const WatchedProcess* parent, bool parent_known);

private:
    struct Resident {
        std::uint64_t file_bytes = 0;  ///< pages of files and of shared memory
    };

    void scan_mapping(const sys::ProcessMapping& mapping, Resident& resident);
    void scan_range(const sys::ProcessMapping& mapping, std::uint64_t start, std::uint64_t end, Resident& resident);
    [[nodiscard]] bool is_passed_over(const sys::ProcessMapping& mapping) const noexcept;
    [[nodiscard]] std::int64_t unaccounted(const PageFigures& figures) const noexcept;
    [[nodiscard]] bool may_be_copied(std::uint64_t chunk) const noexcept;
    void scan_run(std::uint64_t address, const sys::PageKindRun& run);
    void read_pages(std::uint64_t address, std::uint64_t pages, bool huge);
    [[nodiscard]] PageFigures judge_mapping(const sys::ProcessMapping& mapping, const WatchedProcess* parent,
                                            LineageContext context);
    [[nodiscard]] static PageFigures judge_pages(PageStates::Chunk& chunk, const PageStates::Chunk* parents,
                                                 std::uint64_t first, std::uint64_t last,
                                                 const LineageContext& context);

    PageScanOptions options_;
    sys::ProcessStat stat_;
    sys::PageScanner scanner_;
    PageStates pages_;
    std::vector<sys::ProcessMapping> mappings_;
    std::vector<Resident> resident_;               ///< of each mapping
    std::vector<const WatchedProcess*> children_;  ///< during a look
    std::vector<sys::PageKindRun> runs_;
    std::vector<sys::PagemapEntry> entries_;
    std::uint64_t passed_over_bytes_ = 0;
    std::uint64_t looks_ = 0;
    std::uint64_t faults_at_look_ = 0;  ///< when this look began
    std::uint64_t faults_at_last_look_ = 0;
    sys::ProcessMemoryCounts memory_;          ///< as this look began
    sys::ProcessMemoryCounts memory_at_look_;  ///< as the last look at its pages began
    std::int64_t unaccounted_pages_ = 0;
    bool faulted_ = true;
    bool all_new_ = false;
};

}  // namespace vmcow::meter
