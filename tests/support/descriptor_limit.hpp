#pragma once

#include <fcntl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

/// While this object lives, the process can open exactly `free` more descriptors: RLIMIT_NOFILE is lowered to 256, and
/// all but `free` of these descriptors are in use.
class DescriptorLimit {
public:
    explicit DescriptorLimit(std::size_t free) {
        if (getrlimit(RLIMIT_NOFILE, &previous_) == -1) vmcow::sys::throw_errno("getrlimit RLIMIT_NOFILE");
        const rlimit lowered{.rlim_cur = kLimit, .rlim_max = previous_.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &lowered) == -1) vmcow::sys::throw_errno("setrlimit RLIMIT_NOFILE");
        fillers_.reserve(kLimit);
        for (;;) {
            vmcow::sys::UniqueFd filler{open("/dev/null", O_RDONLY | O_CLOEXEC)};
            if (!filler) break;
            fillers_.push_back(std::move(filler));
        }
        fillers_.resize(fillers_.size() - free);
    }
    DescriptorLimit(const DescriptorLimit&) = delete;
    DescriptorLimit& operator=(const DescriptorLimit&) = delete;
    ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &previous_); }

private:
    static constexpr rlim_t kLimit = 256;

    rlimit previous_{};
    std::vector<vmcow::sys::UniqueFd> fillers_;
};
