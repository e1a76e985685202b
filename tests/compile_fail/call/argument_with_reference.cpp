// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<1, Counter, Counter&, int&>
#include "procrun/pool.hpp"

struct Counter {
    int& count;
};
void add(Counter counter);
void f(procrun::Pool& pool, Counter counter) { static_cast<void>(pool.call(add, counter)); }
