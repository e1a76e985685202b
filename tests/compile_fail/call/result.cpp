// expect: the result of a call is void or goes as bytes: it is of a plain type, std::string, a standard container,
// pair, tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or
// view, and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ResultOfCall<int*, int*>
#include "procrun/pool.hpp"

int* find(int value);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(find, 1)); }
