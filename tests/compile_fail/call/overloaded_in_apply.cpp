// expect: use of deleted function 'void procrun::Pool::async_apply(...)
// names: ChooseByStaticCast = procrun::detail::OverloadedFunction
// names: static_cast<R (*)(P...)>(name), or a lambda
#include <span>

#include "procrun/pool.hpp"

void fill(std::span<int> all);
void fill(std::span<long> all);
void f(procrun::Pool& pool, const vmcow::Snapshot& image) { static_cast<void>(pool.async_apply(fill, image)); }
