// expect: the argument of a pool call does not convert to the type of its parameter
// names: Argument<2, int, const std::
#include <string>

#include "procrun/pool.hpp"

int add(int a, int b);
void f(procrun::Pool& pool, const std::string& text) { static_cast<void>(pool.call(add, 1, text)); }
