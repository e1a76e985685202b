// expect: warning: returns the changed x, and x itself is as before: write `x.set_in_place(...)`, or
// `x = std::move(x).set(...)`
#include "vmcow/heap/map.hpp"

void f(vmcow::heap::map<int, int>& map) { map.set(1, 1); }
