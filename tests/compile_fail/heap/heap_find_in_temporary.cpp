// expect: what this points to goes with the temporary that it is asked of: give that a name first
#include "vmcow/heap/map.hpp"

vmcow::heap::map<int, int> make();
const int* f() { return make().find(1); }
