// expect: a value holds plain types, containers of vmcow/containers.hpp and vmcow/heap/, and structs of these: what it
// points to would be nowhere in another process, and a class that hides its members has to vouch for itself
// (vmcow::kVouched)
// names: ContentOfValue<Shape, Shape>
#include "vmcow/value.hpp"

struct Shape {
    virtual ~Shape() = default;
    virtual double area() const { return 0; }
};
void f() { vmcow::Value<Shape> value; }
