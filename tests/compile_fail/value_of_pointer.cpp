// expect: a value is an object, no pointer, reference or view
#include "vmcow/value.hpp"

void f() { static_cast<void>(sizeof(vmcow::Value<int*>)); }
