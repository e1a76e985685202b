#pragma once

#include <numeric>

#include "vmcow/containers.hpp"

/// A vector of numbers that can be a value, and functions that read and change one, here and in function processes.
namespace tests {

using Numbers = vmcow::vector<long>;

inline const Numbers kOneToThree{1, 2, 3};

inline long sum_of(const Numbers& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0L); }
inline void push(Numbers& numbers, long number) { numbers.push_back(number); }

}  // namespace tests
