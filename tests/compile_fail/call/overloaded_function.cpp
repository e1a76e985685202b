// expect: use of deleted function 'void procrun::Pool::call(...)
// names: ChooseByStaticCast = procrun::detail::OverloadedFunction
// names: static_cast<R (*)(P...)>(name), or a lambda
#include "procrun/pool.hpp"

int twice(int number);
double twice(double number);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(twice, 1)); }
