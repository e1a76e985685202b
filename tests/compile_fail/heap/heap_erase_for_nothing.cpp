// expect: warning: returns the changed x, and x itself is as before: write `x.erase_in_place(...)`, or
// `x = std::move(x).erase(...)`
#include "vmcow/heap/block_map.hpp"

void f(vmcow::heap::block_map<int, int>& map) { map.erase(1); }
