// expect: what a lambda captures would go to another process as bytes, where references and pointers lead nowhere: give
// it as arguments, or say by procrun::by_bytes(lambda) that bytes are all there is to it
// names: Function<
#include <span>
#include <vector>

#include "procrun/pool.hpp"

void f(procrun::Pool& pool, const vmcow::Snapshot& image, long factor) {
    static_cast<void>(
        pool.map([&](std::span<const int> all, int at) { return all[0] * factor * at; }, image, std::vector<int>{1}));
}
