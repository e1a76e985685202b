// sum_value returns the sum of the array of doubles that it is called with.
#include <cstdio>
#include <exception>
#include <numeric>

#include "vmcow/program_values.hpp"

int main() {
    try {
        const auto numbers = vmcow::argument<double[]>(0);
        const auto all = numbers.read();
        vmcow::result(vmcow::Value<double>(std::accumulate(all.begin(), all.end(), 0.0)));
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "sum_value: %s\n", error.what()));
        return 1;
    }
    return 0;
}
