// expect: apply changes an image: its first argument is a vmcow::Value, a vmcow::Snapshot or a moved vmcow::Arena
#include "procrun/pool.hpp"

void fill(int value);
void f(procrun::Pool& pool) { static_cast<void>(pool.apply(fill, 1)); }
