// expect: the result of a call is void or goes as bytes: it is of a plain type, std::string, a standard container,
// pair, tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or
// view, and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ResultOfCall<std::vector<Found>, const int*>
#include <string>
#include <vector>

#include "procrun/pool.hpp"

struct Found {
    std::string name;
    const int* at;
};
std::vector<Found> find(int value);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(find, 1)); }
