#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "vmcow/sys/proc/field.hpp"

namespace bench {

/// What this process takes of the kernel.
inline std::size_t descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

inline std::size_t mappings() {
    std::ifstream maps("/proc/self/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);) ++count;
    return count;
}

inline std::uint64_t resident_bytes() { return vmcow::sys::read_proc_bytes("/proc/self/status", "VmRSS").value_or(0); }

/// What a row takes, as counters beside its time.
class Taken {
public:
    void report(benchmark::State& state, std::size_t values, const char* bytes = "bytes_each") const {
        state.counters["descriptors"] = static_cast<double>(descriptors()) - descriptors_;
        state.counters["mappings"] = static_cast<double>(mappings()) - mappings_;
        state.counters[bytes] = (static_cast<double>(resident_bytes()) - bytes_) / static_cast<double>(values);
    }

private:
    double descriptors_ = static_cast<double>(descriptors());
    double mappings_ = static_cast<double>(mappings());
    double bytes_ = static_cast<double>(resident_bytes());
};

}  // namespace bench
