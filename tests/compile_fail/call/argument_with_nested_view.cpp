// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<1, const Texts&, const Texts&,
// names: std::basic_string_view<char>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"

struct Texts {
    std::vector<std::pair<int, std::optional<std::string_view>>> all;
};
void print(const Texts& texts);
void f(procrun::Pool& pool, const Texts& texts) { static_cast<void>(pool.async(print, texts)); }
