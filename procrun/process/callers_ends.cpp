#include "procrun/process/callers_ends.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include "vmcow/image/fork_lock.hpp"

namespace procrun::detail {
namespace {

/// Never destroyed, because pools may be static. Guarded by the fork lock: in a forked child no other thread holds it.
std::vector<CallersEnds*>& all_ends() {
    static auto* const all = new std::vector<CallersEnds*>;
    return *all;
}

}  // namespace

CallersEnds::CallersEnds() {
    const std::scoped_lock lock(vmcow::fork_lock());
    all_ends().push_back(this);
}

CallersEnds::~CallersEnds() {
    const std::scoped_lock lock(vmcow::fork_lock());
    std::erase(all_ends(), this);
}

void CallersEnds::close_all_inherited() noexcept {
    const std::scoped_lock lock(vmcow::fork_lock());
    for (CallersEnds* const ends : all_ends()) {
        if (!ends->are_mine()) ends->close_inherited();
    }
}

bool CallersEnds::is_kept_child(pid_t pid) noexcept {
    const std::scoped_lock lock(vmcow::fork_lock());
    return std::any_of(all_ends().begin(), all_ends().end(),
                       [&](const CallersEnds* ends) { return ends->are_mine() && ends->kept_child() == pid; });
}

}  // namespace procrun::detail
