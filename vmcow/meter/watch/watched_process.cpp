#include "vmcow/meter/watch/watched_process.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

/// Scanning by the bits of pagemap copies 8 bytes a page: 256 GiB take half a second.
constexpr std::uint64_t kMostBytesByBits = std::uint64_t{256} << 30;
constexpr std::size_t kEntriesAtOnce = 8192;

/// Whether the pages are the kernel's own, such as those of [vdso]: no write makes one of them private.
bool is_kernels_own(const sys::ProcessMapping& mapping) { return mapping.inode == 0 && mapping.name.starts_with("[v"); }

std::string name_for(const sys::ProcessMapping& mapping) { return mapping.name.empty() ? "[anonymous]" : mapping.name; }

void count(PageFigures& figures, PageLineage lineage, const PageSeen& child, const PageSeen& parent) {
    if (child.present) figures.resident_bytes += kPageBytes;
    figures.anonymous_bytes += kPageBytes;
    if (child.swapped) figures.swapped_bytes += kPageBytes;
    if (lineage.origin == PageOrigin::fresh) figures.new_bytes += kPageBytes;
    if (is_shared(lineage, parent)) figures.shared_bytes += kPageBytes;
    if (lineage.copied_by == PageWriter::none) return;
    figures.copied += PageCount{1};
    if (lineage.early) figures.copied_early += PageCount{1};
    if (lineage.copied_by == PageWriter::child) figures.copied_by_child += PageCount{1};
    if (lineage.copied_by == PageWriter::parent) figures.copied_by_parent += PageCount{1};
    if (lineage.copied_by == PageWriter::unknown) figures.copied_by_unknown += PageCount{1};
}

bool is_empty(const PageFigures& figures) { return figures.resident_bytes == 0 && figures.swapped_bytes == 0; }

}  // namespace

WatchedProcess::WatchedProcess(const sys::ProcessStat& stat, const PageScanOptions& options, bool all_new)
    : options_(options),
      stat_(stat),
      scanner_(stat.pid, options.method),
      faults_at_look_(stat.page_faults),
      all_new_(all_new) {}

bool WatchedProcess::update(const std::optional<sys::ProcessStat>& stat) {
    if (!stat || stat->start_ticks != stat_.start_ticks || stat->state == 'Z' || stat->state == 'X') return false;
    if (stat->placement != stat_.placement) {
        // The process has executed a program: the descriptor leads to memory that it no longer has.
        scanner_ = sys::PageScanner(stat->pid, options_.method);
        pages_.clear();
        looks_ = 0;
        all_new_ = true;
    }
    stat_ = *stat;
    memory_ = sys::read_process_memory_counts(pid());
    faults_at_last_look_ = std::exchange(faults_at_look_, stat->page_faults);
    return true;
}

void WatchedProcess::settle_faults(const std::optional<sys::ProcessStat>& stat) noexcept {
    faulted_ = !stat || looks_ < 2 || stat->page_faults != faults_at_last_look_;
}

bool WatchedProcess::is_quiet() const noexcept {
    return looks_ > 0 && faults_at_look_ == faults_at_last_look_ && memory_ == memory_at_look_;
}

void WatchedProcess::keep_last_scan() {
    pages_.keep_all();
    ++looks_;
}

void WatchedProcess::scan(std::span<const WatchedProcess* const> children) {
    children_.assign(children.begin(), children.end());
    memory_at_look_ = memory_;
    mappings_ = sys::read_process_maps(pid());
    resident_.assign(mappings_.size(), {});
    passed_over_bytes_ = 0;
    pages_.begin_look();
    for (std::size_t i = 0; i < mappings_.size(); ++i) scan_mapping(mappings_[i], resident_[i]);
    pages_.end_look();
    ++looks_;
}

bool WatchedProcess::can_scan_chunks() const {
    return looks_ > 1 && memory_.resident_of_files == memory_at_look_.resident_of_files &&
           memory_.mapped == memory_at_look_.mapped && sys::read_process_maps(pid()) == mappings_;
}

void WatchedProcess::scan_chunks(const std::set<std::uint64_t>& chunks,
                                 std::span<const WatchedProcess* const> children) {
    VMCOW_ASSERT(seen_before() && "no earlier look found the other chunks");
    children_.assign(children.begin(), children.end());
    memory_at_look_ = memory_;
    pages_.begin_look(chunks);
    for (const std::uint64_t chunk : chunks) {
        const std::uint64_t start = chunk * kHugeBytes;
        const std::uint64_t end = start + kHugeBytes;
        auto mapping = std::lower_bound(
            mappings_.begin(), mappings_.end(), start,
            [](const sys::ProcessMapping& each, std::uint64_t address) { return each.end <= address; });
        for (; mapping != mappings_.end() && mapping->start < end; ++mapping) {
            if (is_kernels_own(*mapping) || is_passed_over(*mapping)) continue;
            Resident files_are_as_before;
            scan_range(*mapping, std::max(start, mapping->start), std::min(end, mapping->end), files_are_as_before);
        }
    }
    pages_.end_look();
    ++looks_;
}

std::int64_t WatchedProcess::unaccounted(const PageFigures& figures) const noexcept {
    const auto counted = static_cast<std::int64_t>((figures.anonymous_bytes - figures.swapped_bytes) / kPageBytes);
    return static_cast<std::int64_t>(memory_.resident) - static_cast<std::int64_t>(memory_.resident_of_files) - counted;
}

bool WatchedProcess::matches_kernel_count(const PageFigures& figures) const noexcept {
    return unaccounted(figures) == unaccounted_pages_;
}

void WatchedProcess::note_unaccounted(const PageFigures& figures) noexcept {
    unaccounted_pages_ = unaccounted(figures);
}

/// Scanning by the bits of pagemap costs as much for a page that does not exist.
bool WatchedProcess::is_passed_over(const sys::ProcessMapping& mapping) const noexcept {
    return options_.method == sys::PageScanMethod::pagemap_bits && mapping.bytes() > kMostBytesByBits;
}

void WatchedProcess::scan_mapping(const sys::ProcessMapping& mapping, Resident& resident) {
    if (is_kernels_own(mapping)) return;
    if (is_passed_over(mapping)) {
        passed_over_bytes_ += mapping.bytes();
        return;
    }
    scan_range(mapping, mapping.start, mapping.end, resident);
}

void WatchedProcess::scan_range(const sys::ProcessMapping& mapping, std::uint64_t start, std::uint64_t end,
                                Resident& resident) {
    runs_.clear();
    scanner_.existing_pages(start, end - start, mapping.private_file(), runs_);
    for (const sys::PageKindRun& run : runs_) {
        if (mapping.shared || run.file) {
            if (!run.swapped) resident.file_bytes += run.pages.count.bytes();
        } else {
            scan_run(start + run.pages.first.byte_offset(), run);
        }
    }
}

bool WatchedProcess::may_be_copied(std::uint64_t number) const noexcept {
    const auto is_open = [&](const PageStates::Chunk* chunk) { return chunk != nullptr && chunk->is_open(); };
    return is_open(pages_.find(number)) || std::any_of(children_.begin(), children_.end(), [&](const auto* child) {
               return is_open(child->pages_.find(number));
           });
}

void WatchedProcess::scan_run(std::uint64_t address, const sys::PageKindRun& run) {
    const std::uint64_t end = address / kPageBytes + run.pages.count.value;
    for (std::uint64_t page = address / kPageBytes; page < end;) {
        const std::uint64_t chunk = page / PageStates::kChunkPages;
        const std::uint64_t here = std::min(end, (chunk + 1) * PageStates::kChunkPages) - page;
        const bool is_known = !run.swapped && !may_be_copied(chunk) && pages_.keep(page, here);
        if (!is_known) read_pages(page * kPageBytes, here, run.huge);
        page += here;
    }
}

void WatchedProcess::read_pages(std::uint64_t address, std::uint64_t pages, bool huge) {
    entries_.resize(kEntriesAtOnce);
    for (std::uint64_t done = 0; done < pages;) {
        const auto piece = std::span(entries_).first(std::min<std::uint64_t>(entries_.size(), pages - done));
        scanner_.read_entries(address + done * kPageBytes, piece);
        for (std::size_t i = 0; i < piece.size(); ++i) {
            const sys::PagemapEntry entry = piece[i];
            if (entry.file() || (!entry.present() && !entry.swapped())) continue;
            pages_.set(address / kPageBytes + done + i,
                       {.present = entry.present(),
                        .swapped = !entry.present(),
                        .exclusive = entry.exclusive(),
                        .huge = huge,
                        .frame = options_.use_frames ? static_cast<std::uint32_t>(entry.frame()) : 0});
        }
        done += piece.size();
    }
}

ProcessSample WatchedProcess::judge(const WatchedProcess* parent, bool parent_known) {
    ProcessSample sample;
    sample.pid = pid();
    sample.parent = stat_.parent;
    sample.command = stat_.command;
    sample.has_parent = parent != nullptr;
    const LineageContext context = {.has_parent = parent != nullptr,
                                    .first_look = looks_ == 1,
                                    .all_new = all_new_,
                                    .private_file = false,
                                    .parent_known = parent_known,
                                    .parent_faulted = parent == nullptr || parent->faulted(),
                                    .child_faulted = faulted_};
    for (std::size_t i = 0; i < mappings_.size(); ++i) {
        PageFigures figures = judge_mapping(mappings_[i], parent, context);
        figures.resident_bytes += resident_[i].file_bytes;
        if (is_empty(figures)) continue;
        sample.figures += figures;
        sample.mappings.push_back({mappings_[i].start, mappings_[i].end, name_for(mappings_[i]), figures});
    }
    for (const auto& [number, chunk] : pages_.chunks()) {
        const std::uint32_t copied = chunk.verdict() ? chunk.verdict()->copied_pages : chunk.copied_pages();
        if (copied > 0) sample.copies.push_back({number, copied});
    }
    return sample;
}

PageFigures WatchedProcess::judge_pages(PageStates::Chunk& chunk, const PageStates::Chunk* parents, std::uint64_t first,
                                        std::uint64_t last, const LineageContext& context) {
    PageFigures figures;
    for (std::uint64_t i = first; i < last; ++i) {
        if (!chunk.exists_now(i)) continue;
        const PagePair own = chunk.pair(i);
        const PagePair parents_page = parents == nullptr ? PagePair{} : parents->pair(i);
        const PageLineage lineage = follow(chunk.lineage(i), own, parents_page, context);
        chunk.set_lineage(i, lineage);
        count(figures, lineage, own.now, parents_page.now);
    }
    return figures;
}

/// A verdict holds if nothing has changed for two looks, neither here nor in the parent. One look may leave a page
/// open, because the two were looked at at slightly different times; the next look settles it.
PageFigures WatchedProcess::judge_mapping(const sys::ProcessMapping& mapping, const WatchedProcess* parent,
                                          LineageContext context) {
    PageFigures figures;
    context.private_file = mapping.private_file();
    const std::uint64_t first = mapping.start / kPageBytes;
    const std::uint64_t end = mapping.end / kPageBytes;
    for (auto at = pages_.chunks().lower_bound(first / PageStates::kChunkPages); at != pages_.chunks().end(); ++at) {
        const std::uint64_t base = at->first * PageStates::kChunkPages;
        if (base >= end) break;
        PageStates::Chunk& chunk = at->second;
        const PageStates::Chunk* const parents = parent == nullptr ? nullptr : parent->pages().find(at->first);
        const bool is_whole = first <= base && base + PageStates::kChunkPages <= end;
        const bool is_unchanged =
            is_whole && chunk.unchanged_looks() == 2 && (parents == nullptr || parents->unchanged_looks() == 2);
        if (is_unchanged && chunk.verdict() && chunk.verdict()->beside_parent == (parents != nullptr)) {
            figures += chunk.verdict()->figures;
            continue;
        }
        const std::uint64_t last = std::min<std::uint64_t>(end - base, PageStates::kChunkPages);
        const PageFigures found = judge_pages(chunk, parents, first > base ? first - base : 0, last, context);
        figures += found;
        std::optional<PageStates::Chunk::Verdict> verdict;
        if (is_unchanged) verdict = {found, chunk.copied_pages(), parents != nullptr};
        chunk.settle(verdict);
    }
    return figures;
}

}  // namespace vmcow::meter
