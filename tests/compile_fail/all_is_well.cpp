// expect: nothing
#include <span>
#include <vector>

#include "procrun/pool.hpp"

int sum(std::span<const int> values);
void fill(std::span<int> values);
void f(procrun::Pool& pool, const vmcow::Snapshot& image, vmcow::Arena& arena) {
    static_cast<void>(pool.call(sum, arena));
    static_cast<void>(pool.apply(fill, image));
    static_cast<void>(pool.async_apply(fill, std::move(arena)));
    static_cast<void>(
        pool.call([](const std::vector<std::string>& texts) { return texts; }, std::vector<std::string>{}));
}
