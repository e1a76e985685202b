// expect: a value holds plain types, containers of vmcow/containers.hpp and vmcow/heap/, and structs of these: what it
// points to would be nowhere in another process, and a class that hides its members has to vouch for itself
// (vmcow::kVouched)
// names: ContentOfValue<Doc, std::__cxx11::basic_string<char> >
#include <string>

#include "vmcow/value.hpp"

struct Doc {
    int number;
    std::string title;
};
void f() { vmcow::Value<Doc> value; }
