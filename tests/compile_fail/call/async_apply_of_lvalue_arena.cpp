// expect: an asynchronous call outlives this statement, so that an arena could change under it: freeze it, or move it
// into async_apply
#include <span>

#include "procrun/pool.hpp"

void fill(std::span<int> values);
void f(procrun::Pool& pool, vmcow::Arena& arena) { static_cast<void>(pool.async_apply(fill, arena)); }
