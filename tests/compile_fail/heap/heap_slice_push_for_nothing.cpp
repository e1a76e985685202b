// expect: warning: returns the changed x, and x itself is as before: write `x.push_in_place(...)`, or
// `x = std::move(x).push(...)`
#include "vmcow/heap/list.hpp"

void f(vmcow::heap::slice<int>& slice) { slice.push(1); }
