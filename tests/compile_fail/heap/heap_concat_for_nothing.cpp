// expect: warning: returns the changed x, and x itself is as before: write `x.concat_in_place(...)`, or
// `x = std::move(x).concat(...)`
#include "vmcow/heap/string.hpp"

void f(vmcow::heap::string& text) { text.concat("!"); }
