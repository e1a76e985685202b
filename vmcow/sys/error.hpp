#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace vmcow::sys {

/// Throws std::system_error for a refusal of the kernel. `error` is a positive errno; `what` names the call and the
/// object, as in "mmap 4096 bytes of image 'text'".
[[noreturn]] void throw_error(int error, const std::string& what);

/// Like throw_error with the current errno, which is read before anything else can change it.
[[noreturn]] void throw_errno(const std::string& what);

/// Repeats `call` while it fails with EINTR. Not for close(2): the descriptor is gone either way.
template <class Call>
auto retry_interrupted(Call&& call) noexcept(noexcept(call())) -> decltype(call()) {
    decltype(call()) result{};
    do {
        result = call();
    } while (result == -1 && errno == EINTR);
    return result;
}

/// Reports a caller's bug: prints the broken condition and aborts. On in every build.
[[noreturn]] void assert_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace vmcow::sys

/// An assert that stays on in every build. The message may name an invariant: VMCOW_ASSERT(sealed && "I1: what would be
/// wrong").
#define VMCOW_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : ::vmcow::sys::assert_failed(#condition, __FILE__, __LINE__))
