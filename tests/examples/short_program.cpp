// The first lines of the README: a value is changed in another process, first into a new value and then in place.
#include <fmt/core.h>

#include <cstddef>
#include <numeric>
#include <span>
#include <utility>

#include "procrun/pool.hpp"
#include "vmcow/value.hpp"

void scale(std::span<double> all, double by) {
    for (double& number : all) number *= by;
}

int main() {
    procrun::Pool pool;                              // before the first thread
    vmcow::Value<double[]> a(std::size_t{1} << 20);  // 8 MiB, in an image
    a.edit([](std::span<double> all) { std::iota(all.begin(), all.end(), 0.0); });
    auto b = pool.apply(scale, a, 2.0).value();           // in another process: a stays, b is new
    a = pool.apply(scale, std::move(a), 10.0).value();    // last use: in place, nothing is copied
    auto c = a;                                           // no copy yet
    c.edit([](std::span<double> all) { all[7] = 0.5; });  // the kernel copies one page
    fmt::print("{} {} {}\n", a[7], b[7], c[7]);
    return 0;
}
