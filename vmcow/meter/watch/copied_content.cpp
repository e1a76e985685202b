#include "vmcow/meter/watch/copied_content.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

#include "vmcow/image/page_compare.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/mem.hpp"

namespace vmcow::meter {
namespace {

constexpr std::size_t kBatchPages = 64;

std::optional<sys::ProcessMemory> memory_of(const WatchedProcess* process) {
    if (process == nullptr) return std::nullopt;
    try {
        return sys::ProcessMemory(process->pid());
    } catch (const std::system_error& error) {
        if (error.code().value() == EMFILE || error.code().value() == ENFILE) throw;
        return std::nullopt;
    }
}

/// The file of a private mapping, if its name still leads to it.
sys::UniqueFd file_of(const sys::ProcessMapping& mapping) {
    if (!mapping.private_file() || mapping.name.empty() || mapping.name.front() != '/') return {};
    // The name may lead to a device or a pipe. These flags keep the open from waiting for it or acquiring a terminal.
    sys::UniqueFd file(::open(mapping.name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0) return {};
    return S_ISREG(status.st_mode) && status.st_ino == mapping.inode ? std::move(file) : sys::UniqueFd();
}

/// Compares the copied pages of one mapping.
class Comparison {
public:
    Comparison(const sys::ProcessMemory& own, const sys::ProcessMemory* relative, const sys::ProcessMapping& mapping,
               ChangedBlocks& blocks, ChangeRecord* record)
        : own_(own), relative_(relative), mapping_(mapping), blocks_(blocks), record_(record) {}

    void add(std::uint64_t page, bool of_file) {
        if (!pages_.empty() && (page != end_ || of_file != of_file_ || pages_.size() == kBatchPages)) flush();
        pages_.push_back(page);
        end_ = page + 1;
        of_file_ = of_file;
    }

    /// Compares the pages gathered so far, which are neighbours of one kind.
    void flush() {
        if (pages_.empty()) return;
        const std::uint64_t address = pages_.front() * kPageBytes;
        const std::size_t bytes = pages_.size() * kPageBytes;
        mine_.resize(bytes);
        theirs_.resize(bytes);
        const std::size_t mine = own_.read(address, mine_);
        const std::size_t got = std::min(mine, of_file_ ? read_file(address) : read_relative(address));
        if (mine < bytes || (!of_file_ && got < bytes)) whole_ = false;
        for (std::size_t at = 0; at + kPageBytes <= got; at += kPageBytes) {
            const std::uint64_t differing = differing_bytes(mine_.data() + at, theirs_.data() + at);
            changes_ += {{1}, {differing == 0 ? 1u : 0u}, differing};
            if (differing == 0) continue;
            blocks_.add_page(address + at, mine_.data() + at, theirs_.data() + at);
            if (record_ != nullptr) record_->add(address + at, mine_.data() + at, theirs_.data() + at);
        }
        pages_.clear();
    }

    [[nodiscard]] const PageChanges& changes() const noexcept { return changes_; }
    /// False if a page that had just been found was gone.
    [[nodiscard]] bool is_whole() const noexcept { return whole_; }

private:
    std::size_t read_relative(std::uint64_t address) {
        return relative_ == nullptr ? 0 : relative_->read(address, theirs_);
    }

    std::size_t read_file(std::uint64_t address) {
        if (!file_) file_ = file_of(mapping_);
        if (!*file_) return 0;
        const std::uint64_t offset = mapping_.offset + (address - mapping_.start);
        std::fill(theirs_.begin(), theirs_.end(), std::byte{0});  // a mapping shows zeros behind the end of its file
        const ssize_t got = sys::retry_interrupted(
            [&] { return ::pread(file_->get(), theirs_.data(), theirs_.size(), static_cast<off_t>(offset)); });
        return got < 0 ? 0 : static_cast<std::size_t>(round_up(static_cast<std::size_t>(got), kPageBytes));
    }

    const sys::ProcessMemory& own_;
    const sys::ProcessMemory* relative_;
    const sys::ProcessMapping& mapping_;
    ChangedBlocks& blocks_;
    ChangeRecord* record_;
    std::optional<sys::UniqueFd> file_;
    std::vector<std::uint64_t> pages_;
    std::uint64_t end_ = 0;
    bool of_file_ = false;
    std::vector<std::byte> mine_;
    std::vector<std::byte> theirs_;
    PageChanges changes_;
    bool whole_ = true;
};

/// Compares the copied pages of one mapping, except those in swap, so that these stay there.
void gather(const WatchedProcess& process, const WatchedProcess* relative, const sys::ProcessMapping& mapping,
            Comparison& comparison) {
    const std::uint64_t first = mapping.start / kPageBytes;
    const std::uint64_t end = mapping.end / kPageBytes;
    const auto& chunks = process.pages().chunks();
    for (auto at = chunks.lower_bound(first / PageStates::kChunkPages); at != chunks.end(); ++at) {
        const std::uint64_t base = at->first * PageStates::kChunkPages;
        if (base >= end) break;
        const PageStates::Chunk* const parents = relative == nullptr ? nullptr : relative->pages().find(at->first);
        const std::uint64_t last = std::min<std::uint64_t>(end - base, PageStates::kChunkPages);
        for (std::uint64_t i = first > base ? first - base : 0; i < last; ++i) {
            const PageLineage lineage = at->second.lineage(i);
            if (lineage.copied_by == PageWriter::none || !at->second.pair(i).now.present) continue;
            const bool of_file = lineage.origin == PageOrigin::file;
            const bool is_there = parents != nullptr && parents->pair(i).now.present;
            if (of_file || is_there) comparison.add(base + i, of_file);
        }
    }
    comparison.flush();
}

}  // namespace

void compare_copied(const WatchedProcess& process, const WatchedProcess* relative, ProcessSample& sample,
                    ChangeRecord* record) {
    if (record != nullptr) record->begin();
    if (sample.figures.copied.value == 0) return;
    const auto own = memory_of(&process);
    if (!own) return;
    const auto relatives = memory_of(relative);
    bool whole = true;
    ChangedBlocks blocks;
    auto mapping = process.mappings().begin();
    for (MappingSample& each : sample.mappings) {
        if (each.figures.copied.value == 0) continue;
        while (mapping->start != each.start) ++mapping;
        Comparison comparison(*own, relatives ? &*relatives : nullptr, *mapping, blocks, record);
        gather(process, relative, *mapping, comparison);
        whole = whole && comparison.is_whole();
        const PageChanges& changes = comparison.changes();
        if (changes.copied.value == 0) continue;
        PageFigures found;
        found.compared = changes.copied;
        found.identical = changes.identical;
        found.changed_bytes = changes.changed_bytes;
        each.figures += found;
        sample.figures += found;
    }
    if (sample.figures.compared) sample.changed_blocks = blocks.counts();
    if (record != nullptr) record->end(process.pid(), whole, relatives.has_value());
}

}  // namespace vmcow::meter
