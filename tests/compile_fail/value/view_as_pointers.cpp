// expect: an image holds plain bytes: trivially copyable, without pointers, references and views; a class that hides
// its members has to vouch for itself (vmcow::kVouched)
// names: T = int*
#include "vmcow/view.hpp"

void f(vmcow::View& view) { static_cast<void>(view.as<int*>()); }
