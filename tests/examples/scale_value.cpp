// scale_value FACTOR FIRST COUNT multiplies COUNT numbers, from number FIRST on, of the array of doubles that it is
// called with. A program for procrun::ProgramCall: the caller's array stays as it is, and only the changed pages are
// sent back.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <stdexcept>

#include "vmcow/program_values.hpp"

namespace {

void scale(double factor, std::size_t first, std::size_t count) {
    auto numbers = vmcow::argument<double[]>(0);  // by value: a handle, nothing copied
    if (first > numbers.size() || count > numbers.size() - first) throw std::out_of_range("there are not so many");
    numbers.edit([&](std::span<double> all) {
        for (double& number : all.subspan(first, count)) number *= factor;  // the kernel copies these pages
    });
    vmcow::result(numbers);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        static_cast<void>(std::fputs("usage: scale_value FACTOR FIRST COUNT\n", stderr));
        return 2;
    }
    try {
        scale(std::strtod(argv[1], nullptr), std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10));
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "scale_value: %s\n", error.what()));
        return 1;
    }
    return 0;
}
