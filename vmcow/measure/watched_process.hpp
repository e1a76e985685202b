#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "vmcow/measure/page_states.hpp"
#include "vmcow/measure/watch_sample.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/process_maps.hpp"
#include "vmcow/sys/process_stat.hpp"

namespace vmcow::measure {

/// How pages are looked at; for tests, each slower way can be asked for.
struct LookOptions {
    sys::PageScanMethod method = sys::best_page_scan();
    bool use_frames = true;  ///< make use of the pages' numbers in memory where the kernel tells them
};

/// One process that is looked at time and again.
///
/// Cost:    finds its pages, 15 ns each, and reads pagemap for those that may still be copied, 80 ns each. Its memory's
///          lock is held for pieces of at most 4096 pages. What it has found is judged once: 2 MiB of addresses that
///          stay as they are, here and in the parent, cost no more than a comparison.
/// Throws:  std::system_error -- EACCES, EPERM (not ours), ENOENT, ESRCH (it has ended), EMFILE. When it ends, executes
///          a program or unmaps memory while it is looked at, that is ESRCH, or a look at what was left.
class WatchedProcess {
public:
    /// Opens its pagemap. `all_new`: it begins to run its program now, so all it has is allocated since.
    WatchedProcess(const sys::ProcessStat& stat, const LookOptions& options, bool all_new);

    [[nodiscard]] pid_t pid() const noexcept { return stat_.pid; }
    [[nodiscard]] const sys::ProcessStat& stat() const noexcept { return stat_; }
    [[nodiscard]] const std::vector<sys::ProcessMapping>& mappings() const noexcept { return mappings_; }
    [[nodiscard]] const PageStates& pages() const noexcept { return pages_; }
    /// Mappings that were not looked at, because by the bits of pagemap that takes too long.
    [[nodiscard]] std::uint64_t passed_over_bytes() const noexcept { return passed_over_bytes_; }
    /// Whether it has been looked at; false again after it has executed a program.
    [[nodiscard]] bool seen() const noexcept { return looks_ > 0; }
    [[nodiscard]] bool seen_before() const noexcept { return looks_ > 1; }

    /// Takes in what is new of it before a look: another program, more page faults. False when it is another process
    /// by now, or a zombie.
    [[nodiscard]] bool update(const std::optional<sys::ProcessStat>& stat);
    /// The same after the look. Whether it had page faults since the look before this one began.
    void settle_faults(const std::optional<sys::ProcessStat>& stat) noexcept;
    [[nodiscard]] bool faulted() const noexcept { return faulted_; }

    /// Whether a look would find what the last one has found, as far as the process itself goes: it has had no page
    /// fault since that one began, and has no more and no less in memory. Pre: `update` was called.
    [[nodiscard]] bool is_quiet() const noexcept;

    /// Finds its pages. Where no page of a chunk can be copied any more, neither here nor in one of `children`, and all
    /// were there before, only that they exist is looked at.
    void look(std::span<const WatchedProcess* const> children);
    /// In place of a look, where it would find the same.
    void look_again();
    /// Whether `look_where` may be called now: its mappings are what they were, and so is what it has of files.
    [[nodiscard]] bool can_look_where() const;
    /// Finds its pages in these chunks alone; all others are as they were. Pre: can_look_where().
    void look_where(const std::set<std::uint64_t>& chunks, std::span<const WatchedProcess* const> children);
    /// Whether as many pages were counted as the kernel says that there are: after `look_where` what it relied upon
    /// was so. `figures` are those of the look.
    [[nodiscard]] bool is_explained(const PageFigures& figures) const noexcept;
    /// After a look at all of it: what the kernel counts beyond the pages that were found.
    void remember_unexplained(const PageFigures& figures) noexcept;
    /// What has become of them, beside `parent`, which was looked at afterwards; nullptr where there is none.
    [[nodiscard]] ProcessSample judge(const WatchedProcess* parent, bool parent_known);

private:
    struct Resident {
        std::uint64_t file_bytes = 0;  ///< pages of files and of shared memory
    };

    void look_at(const sys::ProcessMapping& mapping, Resident& resident);
    void look_at_range(const sys::ProcessMapping& mapping, std::uint64_t start, std::uint64_t end, Resident& resident);
    [[nodiscard]] bool is_passed_over(const sys::ProcessMapping& mapping) const noexcept;
    [[nodiscard]] std::int64_t unexplained(const PageFigures& figures) const noexcept;
    [[nodiscard]] bool may_be_copied(std::uint64_t chunk) const noexcept;
    void look_at_run(std::uint64_t address, const sys::PageKindRun& run);
    void look_at_pages(std::uint64_t address, std::uint64_t pages, bool huge);
    [[nodiscard]] PageFigures judge_mapping(const sys::ProcessMapping& mapping, const WatchedProcess* parent,
                                            LineageContext context);
    [[nodiscard]] static PageFigures judge_pages(PageStates::Chunk& chunk, const PageStates::Chunk* parents,
                                                 std::uint64_t first, std::uint64_t last,
                                                 const LineageContext& context);

    LookOptions options_;
    sys::ProcessStat stat_;
    sys::PageScanner scanner_;
    PageStates pages_;
    std::vector<sys::ProcessMapping> mappings_;
    std::vector<Resident> resident_;               ///< of each mapping
    std::vector<const WatchedProcess*> children_;  ///< while it is looked at
    std::vector<sys::PageKindRun> runs_;
    std::vector<sys::PagemapEntry> entries_;
    std::uint64_t passed_over_bytes_ = 0;
    std::uint64_t looks_ = 0;
    std::uint64_t faults_at_look_ = 0;  ///< when this look began
    std::uint64_t faults_at_last_look_ = 0;
    sys::ProcessMemoryCounts memory_;          ///< as this look began
    sys::ProcessMemoryCounts memory_at_look_;  ///< as the last look at its pages began
    std::int64_t unexplained_pages_ = 0;
    bool faulted_ = true;
    bool all_new_ = false;
};

}  // namespace vmcow::measure
