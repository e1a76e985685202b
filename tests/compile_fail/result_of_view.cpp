// expect: the result of a pool call is void, trivially copyable (no pointer), std::string, vmcow::Snapshot, or a
// std::vector, std::pair or std::tuple of these
#include <string_view>

#include "procrun/pool.hpp"

std::string_view name(int value);
void f(procrun::Pool& pool) { static_cast<void>(pool.async(name, 1)); }
