#include "vmcow/meter/watch/change_record.hpp"

#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

void ChangeRecord::begin() {
    writes_ -= writes_of_look_;
    writes_of_look_ = 0;
    look_.clear();
}

void ChangeRecord::end(pid_t pid, bool whole, bool with_relative) {
    const auto known = processes_.find(pid);
    if (known != processes_.end()) {
        if (!whole || (known->second.with_relative && !with_relative)) return begin();
        for (const auto& [number, writes] : known->second.chunks) writes_ -= writes.size();
    }
    writes_of_look_ = 0;
    processes_.insert_or_assign(pid, Look{std::exchange(look_, {}), with_relative});
}

void ChangeRecord::add(std::uint64_t address, const std::byte* now, const std::byte* before) {
    if (writes_ >= kMostWrites) {
        ++pages_left_out_;
        return;
    }
    std::vector<TracedWrite>& writes = look_[address / kHugeBytes];
    const std::uint64_t base = address % kHugeBytes;
    for (std::size_t at = 0; at < kPageBytes;) {
        if (now[at] == before[at]) {
            ++at;
            continue;
        }
        std::size_t end = at + 1;
        while (end < kPageBytes && now[end] != before[end]) ++end;
        if (!writes.empty() && writes.back().offset + writes.back().bytes == base + at) {
            writes.back().bytes += end - at;
        } else {
            writes.push_back({base + at, end - at});
            ++writes_;
            ++writes_of_look_;
        }
        at = end;
    }
}

Trace ChangeRecord::trace() const {
    VMCOW_ASSERT(!empty());
    std::vector<TracedWrite> all;
    all.reserve(writes_);
    std::uint64_t base = 0;
    for (const auto& [pid, look] : processes_) {
        for (const auto& [number, writes] : look.chunks) {
            for (const TracedWrite& write : writes) all.push_back({base + write.offset, write.bytes});
            if (!writes.empty()) base += kHugeBytes;
        }
    }
    return Trace(std::move(all));
}

}  // namespace vmcow::meter
