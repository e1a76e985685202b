// expect: warning: returns the changed x, and x itself is left empty: write `x.push_in_place(...)`, or
// `x = std::move(x).push(...)`
#include "vmcow/heap/list.hpp"

void f(vmcow::heap::list<int>& list) { std::move(list).push(1); }
