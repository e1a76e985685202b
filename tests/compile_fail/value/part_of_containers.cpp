// expect: a part is plain bytes: an object, or the elements of an array or a container
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

using Names = vmcow::vector<vmcow::string>;
void f(const vmcow::Value<Names>& v) {
    static_cast<void>(v.part([](const Names& names) -> const Names& { return names; }));
}
