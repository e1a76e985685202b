// expect: the result of a call is void or goes as bytes: it is of a plain type, std::string, a standard container,
// pair, tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or
// view, and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ResultOfCall<std::basic_string_view<char>
#include <string_view>

#include "procrun/pool.hpp"

std::string_view name(int value);
void f(procrun::Pool& pool) { static_cast<void>(pool.async(name, 1)); }
