// expect: an image holds plain bytes: trivially copyable, without pointers, references and views; a class that hides
// its members has to vouch for itself (vmcow::kVouched)
// names: T = Row
#include "vmcow/arena.hpp"

struct Row {
    const char* text;
};
void f(vmcow::Arena& arena) { static_cast<void>(arena.allocate_array<Row>(3)); }
