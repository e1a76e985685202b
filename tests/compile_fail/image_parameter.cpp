// expect: an image (vmcow::Snapshot, vmcow::Arena) is taken as const T&, T&, T, std::span<const T> or std::span<T> of a
// trivially copyable T that is no pointer
#include <vector>

#include "procrun/pool.hpp"

void fill(std::vector<int>& values);
void f(procrun::Pool& pool, const vmcow::Snapshot& image) { static_cast<void>(pool.call(fill, image)); }
