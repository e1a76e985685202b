// print_value: prints the sum of the array of longs that it is started with, and then the lines that it reads.
#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <iostream>
#include <numeric>
#include <string>

#include "vmcow/program_values.hpp"
#include "vmcow/sys/error.hpp"

int main() {
    try {
        const auto numbers = vmcow::argument<long[]>(0);
        const auto all = numbers.read();
        fmt::print("{} of {}\n", std::accumulate(all.begin(), all.end(), 0L), vmcow::argument_count());
        for (std::string line; std::getline(std::cin, line);) fmt::print("{}\n", line);
        // Reading from cin flushes too, and ignores the errors of that flush.
        if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) vmcow::sys::throw_error(EIO, "standard output");
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "print_value: %s\n", error.what()));
        return 1;
    }
}
