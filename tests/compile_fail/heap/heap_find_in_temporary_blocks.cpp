// expect: what this points to goes with the temporary that it is asked of: give that a name first
#include "vmcow/heap/block_map.hpp"

vmcow::heap::block_map<int, int> make();
const int* f() { return make().find(1); }
