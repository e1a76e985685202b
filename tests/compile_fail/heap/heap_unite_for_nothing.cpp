// expect: warning: returns the changed x, and x itself is as before: write `x.unite_in_place(...)`, or
// `x = std::move(x).unite(...)`
#include "vmcow/heap/set.hpp"

void f(vmcow::heap::set<int>& set) { set.unite(set); }
