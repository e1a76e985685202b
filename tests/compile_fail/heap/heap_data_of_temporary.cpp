// expect: what this points to goes with the temporary that it is asked of: give that a name first
#include "vmcow/heap/list.hpp"

vmcow::heap::list<int> make();
const int* f() { return make().data(); }
