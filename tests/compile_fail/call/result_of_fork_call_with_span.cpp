// expect: the result of a call is void or goes as bytes: it is of a plain type, std::string, a standard container,
// pair, tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or
// view, and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ResultOfCall<Found, std::span<int>
#include <span>

#include "procrun/fork_call.hpp"

struct Found {
    std::span<int> all;
};
void f(std::span<int> all) {
    static_cast<void>(procrun::fork_call([&] { return Found{all}; }));
}
