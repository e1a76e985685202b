#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <array>
#include <cstddef>

namespace tests {

/// Makes the system call `call` fail with `error` from now on, also after exec, as in a kernel that lacks the call or a
/// container that refuses it. Only for a child: a filter cannot be removed. False where the kernel has no seccomp
/// filters.
[[nodiscard]] inline bool forbid_call(int call, int error) noexcept {
    std::array<sock_filter, 4> filter = {{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<__u32>(call)},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<__u32>(error)},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    }};
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// The lower 32 bits of argument `index` of a system call.
struct CallArgument {
    unsigned index;
    unsigned value;
};

/// Makes `call` fail with `error` only where it has that `argument`.
[[nodiscard]] inline bool forbid_call(int call, int error, CallArgument argument) noexcept {
    const auto offset = static_cast<__u32>(offsetof(seccomp_data, args) + argument.index * sizeof(__u64));
    std::array<sock_filter, 6> filter = {{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, static_cast<__u32>(call)},
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offset},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, argument.value},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<__u32>(error)},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    }};
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace tests
