// expect: a value is an object, no pointer, reference or view: those point out of its image
// names: ContentOfValue<int*, int*>
#include "vmcow/value.hpp"

void f() { static_cast<void>(sizeof(vmcow::Value<int*>)); }
