// expect: what a lambda captures would go to another process as bytes, where references and pointers lead nowhere: give
// it as arguments, or say by procrun::by_bytes(lambda) that bytes are all there is to it
// names: Function<
#include <span>

#include "procrun/pool.hpp"

void f(procrun::Pool& pool, const vmcow::Snapshot& image, int& seen) {
    static_cast<void>(pool.apply([&](std::span<int> all) { seen = all[0]; }, image));
}
