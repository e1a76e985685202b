// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<1, const char*, const char (&)[5], const char*>
#include "procrun/pool.hpp"

int length(const char* text);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(length, "text")); }
