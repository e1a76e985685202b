#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace vmcow::sys {

/// Throws what the kernel refused: `error` (a positive errno) and the call with the object's name, as in
/// "mmap 4096 bytes of image 'text'".
[[noreturn]] void throw_error(int error, const std::string& what);

/// The same with the current errno, which is read before anything else can change it.
[[noreturn]] void throw_errno(const std::string& what);

/// Calls `call` again for as long as it fails with EINTR. Never for close(2): there the descriptor is gone either way.
template <class Call>
auto retry_interrupted(Call&& call) noexcept(noexcept(call())) -> decltype(call()) {
    decltype(call()) result{};
    do {
        result = call();
    } while (result == -1 && errno == EINTR);
    return result;
}

/// A caller's bug: prints the broken condition and aborts. On in every build.
[[noreturn]] void assert_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace vmcow::sys

/// An assert that stays on in every build; the message may name an invariant: VMCOW_ASSERT(sealed && "I1").
#define VMCOW_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : ::vmcow::sys::assert_failed(#condition, __FILE__, __LINE__))
