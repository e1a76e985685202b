// expect: warning: returns the changed x, and x itself is as before: write `x.push_back_in_place(...)`, or
// `x = std::move(x).push_back(...)`
#include "vmcow/heap/block_array.hpp"

void f(vmcow::heap::block_array<int>& array) { array.push_back(1); }
