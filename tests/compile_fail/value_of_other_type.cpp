// expect: of the same T
#include "procrun/pool.hpp"

long sum(const long& number);
void f(procrun::Pool& pool, const vmcow::Value<int>& v) { static_cast<void>(pool.call(sum, v)); }
