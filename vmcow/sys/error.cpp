#include "vmcow/sys/error.hpp"

#include <cstdio>
#include <cstdlib>

namespace vmcow::sys {

void throw_error(int error, const std::string& what) { throw std::system_error(error, std::system_category(), what); }

void throw_errno(const std::string& what) { throw_error(errno, what); }

void assert_failed(const char* condition, const char* file, int line) noexcept {
    static_cast<void>(std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition));
    std::abort();
}

}  // namespace vmcow::sys
