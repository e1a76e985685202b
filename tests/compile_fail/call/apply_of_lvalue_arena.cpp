// expect: apply shares unchanged pages with the value it is given, which an arena that can still change does not allow:
// freeze it to keep it, or move it to have it changed in place
#include <span>

#include "procrun/pool.hpp"

void fill(std::span<int> values);
void f(procrun::Pool& pool, vmcow::Arena& arena) { static_cast<void>(pool.apply(fill, arena)); }
