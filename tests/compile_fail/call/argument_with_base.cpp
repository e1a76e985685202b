// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<1, Derived, Derived&, Derived>
#include "procrun/pool.hpp"

struct Base {
    const char* text;
};
struct Derived : Base {
    int number;
};
void take(Derived derived);
void f(procrun::Pool& pool, Derived derived) { static_cast<void>(pool.call(take, derived)); }
