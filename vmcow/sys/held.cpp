#include "vmcow/sys/held.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace vmcow::sys {

void used_after_move(const char* type, const char* call) noexcept {
    const auto name = static_cast<int>(std::strcspn(call, "<"));  // leaves out the template arguments
    static_cast<void>(std::fprintf(
        stderr, "%s::%.*s: this object was moved from and holds nothing: it can only be assigned to or destroyed\n",
        type, name, call));
    std::abort();
}

}  // namespace vmcow::sys
