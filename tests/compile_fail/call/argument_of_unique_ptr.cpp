// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<1, std::unique_ptr<int>
#include <memory>

#include "procrun/pool.hpp"

void take(std::unique_ptr<int> number);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(take, std::make_unique<int>(1))); }
