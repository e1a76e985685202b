// expect: a vmcow::Value<T> or a part of one is taken as const T&, T& or T, a vmcow::Value<T[]> or a part with several
// elements as std::span<const T> or std::span<T>, of the same T
#include "procrun/pool.hpp"
#include "vmcow/containers.hpp"

struct Doc {
    vmcow::vector<long> words;
};
void f(procrun::Pool& pool, const vmcow::Value<Doc>& doc) {
    static_cast<void>(pool.apply([](vmcow::vector<int>& words) { words.clear(); }, doc.member(&Doc::words)));
}
