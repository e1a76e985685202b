// expect: a pool call has as many arguments as the function has parameters
// names: Counts<2, 1>
#include "procrun/pool.hpp"

int add(int a, int b);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(add, 1)); }
