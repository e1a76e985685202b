#pragma once

#include <initializer_list>
#include <stdexcept>

#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

namespace tests {

/// A value of a few numbers that lies in a file, as large ones do: its memory has room for many.
inline vmcow::Value<vmcow::vector<long>> in_file(std::initializer_list<long> numbers) {
    constexpr std::size_t kMany = 50'000;
    vmcow::Value<vmcow::vector<long>> value(numbers);
    value.edit([](vmcow::vector<long>& all) { all.reserve(kMany); });
    if (value.handle()->block_bytes()) throw std::logic_error("a value of 400 KB lies in no file");
    return value;
}

}  // namespace tests
