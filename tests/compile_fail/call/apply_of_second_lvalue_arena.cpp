// expect: apply shares unchanged pages with the value it is given, which an arena that can still change does not allow:
// freeze it to keep it, or move it to have it changed in place
// names: Argument<2, std::span<int>, vmcow::Arena&>
#include <span>

#include "procrun/pool.hpp"

void copy(std::span<int> to, std::span<int> from);
void f(procrun::Pool& pool, const vmcow::Snapshot& to, vmcow::Arena& from) {
    static_cast<void>(pool.apply(copy, to, from));
}
