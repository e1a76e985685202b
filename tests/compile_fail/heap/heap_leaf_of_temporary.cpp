// expect: what this points to goes with the temporary that it is asked of: give that a name first
#include "vmcow/heap/block_array.hpp"

vmcow::heap::block_array<int> make();
void f() {
    for (const int each : make().leaf_from(0)) static_cast<void>(each);
}
