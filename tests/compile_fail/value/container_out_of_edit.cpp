// expect: a container that leaves edit() would have its memory in the value: read() it, and copy
#include <utility>

#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

using Names = vmcow::vector<vmcow::string>;
void f(vmcow::Value<Names>& v) {
    static_cast<void>(v.edit([](Names& names) { return std::move(names); }));
}
