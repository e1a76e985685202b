// expect: what this points to goes with the temporary that it is asked of: give that a name first
#include "vmcow/heap/string.hpp"

vmcow::heap::string make();
void f() {
    for (const char each : make().view()) static_cast<void>(each);
}
