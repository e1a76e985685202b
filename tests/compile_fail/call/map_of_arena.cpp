// expect: an asynchronous call outlives this statement, so that an arena could change under it: freeze it, or move it
// into async_apply
#include <span>
#include <vector>

#include "procrun/pool.hpp"

int pick(std::span<const int> values, int at);
void f(procrun::Pool& pool, vmcow::Arena& arena) { static_cast<void>(pool.map(pick, arena, std::vector<int>{1})); }
