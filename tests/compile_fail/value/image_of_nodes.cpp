// expect: an image (vmcow::Snapshot, vmcow::Arena) is taken as const T&, T&, T, std::span<const T> or std::span<T> of a
// T that is plain bytes: trivially copyable, without pointers, references and views; a class that hides its members has
// to vouch for itself (vmcow::kVouched)
// names: Argument<2, std::span<const Node>, const vmcow::Snapshot&>
#include <span>

#include "procrun/pool.hpp"

struct Node {
    long number;
    const Node* next;
};
long sum(int from, std::span<const Node> nodes);
void f(procrun::Pool& pool, const vmcow::Snapshot& image) { static_cast<void>(pool.call(sum, 1, image)); }
