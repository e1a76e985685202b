// expect: a value holds plain types, containers of vmcow/containers.hpp and vmcow/heap/, and structs of these: what it
// points to would be nowhere in another process, and a class that hides its members has to vouch for itself
// (vmcow::kVouched)
// names: ContentOfValue<Node, Node*>
#include "vmcow/value.hpp"

struct Node {
    long number;
    Node* next;
};
void f() { vmcow::Value<Node> value; }
