#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace tests {

/// While this object lives, the process can make only `free` more mappings. A range in which every other page is
/// readable uses up the rest of vm.max_map_count, because each of its pages is a mapping. Only for a child that has
/// allocated all the memory it needs: malloc makes mappings too.
class MappingLimit {
public:
    explicit MappingLimit(std::size_t free) {
        void* const at = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) vmcow::sys::throw_errno("reserve address space");
        start_ = static_cast<std::byte*>(at);
        while ((used_ + 1) * kStep < kBytes && protect(used_, PROT_READ)) ++used_;
        // At this point no mapping can be split, but a new one is still possible. The pages get alternating protections
        // too, or the kernel would join them.
        for (std::size_t i = 0; i < extra_.size(); ++i) {
            extra_[i] = ::mmap(nullptr, vmcow::kPageBytes, i % 2 == 0 ? PROT_EXEC : PROT_READ | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        }
        // Each readable page in the middle made two more mappings.
        for (std::size_t given = 0; given < free; given += 2) protect(--used_, PROT_NONE);
    }
    ~MappingLimit() {
        ::munmap(start_, kBytes);
        for (void* const page : extra_) {
            if (page != MAP_FAILED) ::munmap(page, vmcow::kPageBytes);
        }
    }
    MappingLimit(const MappingLimit&) = delete;
    MappingLimit& operator=(const MappingLimit&) = delete;

private:
    static constexpr std::size_t kStep = 2 * vmcow::kPageBytes;
    static constexpr std::size_t kBytes = std::size_t{16} << 30;

    bool protect(std::size_t index, int protection) noexcept {
        return ::mprotect(start_ + index * kStep + vmcow::kPageBytes, vmcow::kPageBytes, protection) == 0;
    }

    std::byte* start_ = nullptr;
    std::size_t used_ = 0;
    std::array<void*, 4> extra_{};
};

}  // namespace tests
