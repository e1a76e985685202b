// expect: apply changes its first argument: the function takes it as T& or std::span<T>
#include <span>

#include "procrun/pool.hpp"

int sum(std::span<const int> values);
void f(procrun::Pool& pool, const vmcow::Snapshot& image) { static_cast<void>(pool.apply(sum, image)); }
