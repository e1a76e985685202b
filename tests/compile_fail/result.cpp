// expect: the result of a pool call is void, trivially copyable (no pointer), std::string, vmcow::Snapshot, or a
// std::vector, std::pair or std::tuple of these
#include "procrun/pool.hpp"

int* find(int value);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(find, 1)); }
