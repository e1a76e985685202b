// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<2, const Node&, Node, const Node*>
#include "procrun/pool.hpp"

struct Node {
    int number;
    const Node* next;
};
int sum(int first, const Node& node);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(sum, 1, Node{1, nullptr})); }
