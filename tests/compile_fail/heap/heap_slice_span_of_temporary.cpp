// expect: what this points to goes with the temporary that it is asked of: give that a name first
#include "vmcow/heap/list.hpp"

void f(const vmcow::heap::list<int>& list) {
    for (const int each : list.slice(0, 2).span()) static_cast<void>(each);
}
