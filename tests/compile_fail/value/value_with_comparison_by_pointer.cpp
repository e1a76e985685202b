// expect: a value holds plain types, containers of vmcow/containers.hpp and vmcow/heap/, and structs of these: what it
// points to would be nowhere in another process, and a class that hides its members has to vouch for itself
// (vmcow::kVouched)
// names: bool (*)(int, int)
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

void f() { vmcow::Value<vmcow::set<int, bool (*)(int, int)>> value; }
