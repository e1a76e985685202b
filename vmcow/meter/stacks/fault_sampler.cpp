#include "vmcow/meter/stacks/fault_sampler.hpp"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "vmcow/units.hpp"

namespace vmcow::meter {
namespace {

constexpr std::uint32_t kMostLooksMissed = 2;

}  // namespace

int FaultSampler::follow(pid_t pid) {
    drain();
    const auto [known, is_new] = processes_.try_emplace(pid, pid);
    known->second.followed = true;
    if (!is_new) return 0;
    const int error = events_.attach_process(pid, known->second.threads, *this);
    if (known->second.threads.empty()) {
        processes_.erase(pid);
        return error;
    }
    known->second.code.add_all(symbols_);
    return error;
}

void FaultSampler::drain() { events_.drain(*this); }

std::uint32_t FaultSampler::number_of(const CallChain& chain) {
    const auto [known, is_new] = chain_numbers_.try_emplace(chain, static_cast<std::uint32_t>(chains_.size()));
    if (is_new) chains_.push_back(&known->first);
    return known->second;
}

std::uint32_t FaultSampler::number_of(std::span<const std::uint64_t> addresses, const CodeMap& code) {
    scratch_.clear();
    for (const std::uint64_t address : addresses) scratch_.push_back(code.place_of(address));
    // The kernel follows frame pointers. In code that has none, the outer addresses of a chain are meaningless.
    while (scratch_.size() > 1 && scratch_.back().object == CodePlace::kNowhere) scratch_.pop_back();
    if (chains_.size() < options_.most_chains || chain_numbers_.contains(scratch_)) return number_of(scratch_);
    scratch_.resize(1);
    if (chains_.size() >= 2 * options_.most_chains && !chain_numbers_.contains(scratch_)) scratch_[0] = {};
    return number_of(scratch_);
}

void FaultSampler::on_fault(const sys::FaultSample& sample) {
    const auto process = processes_.find(sample.pid);
    const bool followed = process != processes_.end() && process->second.followed;
    if (!options_.with_children && !followed) return;
    counts_.seen += sample.weight;
    if (pending_.size() >= options_.most_pending) {
        counts_.dropped += sample.weight;
        return;
    }
    const std::size_t known_chains = chains_.size();
    const std::uint32_t chain = process != processes_.end() ? number_of(sample.chain, process->second.code)
                                                            : number_of(sample.chain, CodeMap(sample.pid));
    if (known_chains >= options_.most_chains && chains_[chain]->size() < 2 && sample.chain.size() > 1) {
        counts_.shortened += sample.weight;
    }
    const auto weight = std::min<std::uint64_t>(sample.weight, std::numeric_limits<std::uint32_t>::max());
    pending_.push_back(
        {sample.pid, chain, sample.address / kPageBytes, sample.time_ns, static_cast<std::uint32_t>(weight), 0});
}

void FaultSampler::on_mapped_code(const sys::MappedCode& code) {
    const auto process = processes_.find(code.pid);
    if (process == processes_.end()) return;
    process->second.code.add(symbols_, code.start, code.end, code.offset, std::string(code.name), code.inode);
}

void FaultSampler::on_fork(pid_t pid, pid_t thread, pid_t parent, std::uint64_t time_ns) {
    if (pid != parent) {
        const auto from = processes_.find(parent);
        Process child = from != processes_.end() ? Process(from->second.code.forked(pid)) : Process(pid);
        child.parent = parent;
        child.began_ns = time_ns;
        processes_.insert_or_assign(pid, std::move(child));
    }
    const auto process = processes_.find(pid);
    if (process != processes_.end()) process->second.threads.insert(thread);
}

void FaultSampler::on_exec(pid_t pid, std::string_view) {
    const auto process = processes_.find(pid);
    if (process == processes_.end()) return;
    process->second.code.clear();
    process->second.parent = 0;
    process->second.threads = {pid};
}

void FaultSampler::on_exit(pid_t pid, pid_t thread, std::uint64_t time_ns) {
    const auto process = processes_.find(pid);
    if (process == processes_.end()) return;
    process->second.threads.erase(thread);
    if (process->second.threads.empty()) process->second.ended_ns = time_ns;
}

bool FaultSampler::has_ended(pid_t pid) const {
    const auto process = processes_.find(pid);
    return process == processes_.end() || process->second.ended_ns != UINT64_MAX;
}

bool FaultSampler::was_shared_with_parent(const CopyJudge& judge, const Fault& fault) const {
    auto process = processes_.find(fault.pid);
    for (std::size_t depth = 0; depth < processes_.size() && process != processes_.end(); ++depth) {
        const pid_t parent = process->second.parent;
        if (parent == 0) return false;
        if (judge.has_private_page(parent, fault.page)) return true;
        process = processes_.find(parent);
    }
    return false;
}

bool FaultSampler::was_shared_with_child(const CopyJudge& judge, const Fault& fault) const {
    if (!judge.has_private_page(fault.pid, fault.page)) return false;
    return std::any_of(processes_.begin(), processes_.end(), [&](const auto& entry) {
        const Process& child = entry.second;
        return child.parent == fault.pid && child.ended_ns != UINT64_MAX && child.began_ns < fault.time_ns &&
               fault.time_ns < child.ended_ns;
    });
}

void FaultSampler::count_copy(const Fault& fault) {
    counts_.copied += fault.weight;
    copies_[*chains_[fault.chain]] += fault.weight;
}

void FaultSampler::settle(const CopyJudge& judge, std::uint64_t before_ns) {
    // Of several faults on a page that was copied, the last one is the write: the earlier ones read the page in.
    std::sort(pending_.begin(), pending_.end(), [](const Fault& a, const Fault& b) {
        return std::tie(a.pid, a.page, a.time_ns) < std::tie(b.pid, b.page, b.time_ns);
    });
    std::vector<Fault> kept;
    for (std::size_t i = 0; i < pending_.size(); ++i) {
        Fault fault = pending_[i];
        if (fault.time_ns >= before_ns) {
            kept.push_back(fault);
            continue;
        }
        const bool is_last = i + 1 == pending_.size() || pending_[i + 1].pid != fault.pid ||
                             pending_[i + 1].page != fault.page || pending_[i + 1].time_ns >= before_ns;
        const FaultVerdict verdict = judge.verdict(fault.pid, fault.page);
        if (verdict == FaultVerdict::copied && is_last) {
            count_copy(fault);
        } else if ((verdict == FaultVerdict::not_settled && has_ended(fault.pid) &&
                    was_shared_with_parent(judge, fault)) ||
                   was_shared_with_child(judge, fault)) {
            counts_.inferred += fault.weight;
            count_copy(fault);
        } else if (verdict != FaultVerdict::not_settled) {
            counts_.not_copied += fault.weight;
        } else if (!has_ended(fault.pid) && fault.looks_missed < kMostLooksMissed) {
            ++fault.looks_missed;
            kept.push_back(fault);
        } else {
            counts_.unsettled += fault.weight;
        }
    }
    pending_ = std::move(kept);
    forget_the_ended(before_ns);
}

void FaultSampler::forget_the_ended(std::uint64_t before_ns) {
    std::erase_if(processes_, [&](const auto& entry) { return entry.second.ended_ns < before_ns; });
}

std::size_t FaultSampler::memory_bytes() const noexcept {
    std::size_t bytes = events_.memory_bytes() + pending_.capacity() * sizeof(Fault);
    for (const CallChain* const chain : chains_) bytes += 2 * (sizeof(CallChain) + chain->size() * sizeof(CodePlace));
    return bytes;
}

}  // namespace vmcow::meter
