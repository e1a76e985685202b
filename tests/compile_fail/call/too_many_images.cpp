// expect: a pool call has eight images and values at the most
#include "procrun/pool.hpp"

using T = const int&;
int sum(T, T, T, T, T, T, T, T, T);
void f(procrun::Pool& pool, const vmcow::Snapshot& v) { static_cast<void>(pool.call(sum, v, v, v, v, v, v, v, v, v)); }
