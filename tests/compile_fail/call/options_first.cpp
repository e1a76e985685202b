// expect: a pool call has as many arguments as the function has parameters
#include "procrun/pool.hpp"

int add(int a, int b);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(procrun::CallOptions{}, add, 1, 2, 3)); }
