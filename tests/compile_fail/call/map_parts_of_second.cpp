// expect: only the first argument of a graph's apply or of map_parts comes back changed: take the others as const T& or
// std::span<const T>, or, to change a copy, as T
// names: Argument<2, std::span<long int>
#include <span>

#include "procrun/pool.hpp"

void copy(std::span<long> to, std::span<long> from);
void f(procrun::Pool& pool, const vmcow::Value<long[]>& a, const vmcow::Value<long[]>& b) {
    static_cast<void>(pool.map_parts(copy, a, 4, b));
}
