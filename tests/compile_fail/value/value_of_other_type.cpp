// expect: a vmcow::Value<T> or a part of one is taken as const T&, T& or T, a vmcow::Value<T[]> or a part with several
// elements as std::span<const T> or std::span<T>, of the same T
#include "procrun/pool.hpp"

long sum(const long& number);
void f(procrun::Pool& pool, const vmcow::Value<int>& v) { static_cast<void>(pool.call(sum, v)); }
