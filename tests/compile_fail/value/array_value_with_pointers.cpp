// expect: the elements of an array value are plain bytes: trivially copyable, without pointers, references and views; a
// class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ElementsOfValue<Row, const char*>
#include "vmcow/value.hpp"

struct Row {
    long number;
    const char* text;
};
void f() { vmcow::Value<Row[]> value(3); }
