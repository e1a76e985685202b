#include "vmcow/sys/process/owner_process.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "vmcow/units.hpp"

namespace vmcow::sys {
namespace {

/// A number for the memory of a process. It is 0 in a forked child until the child asks for its generation.
using Generation = std::atomic<std::uint64_t>;

/// The page is never unmapped: static objects ask while the program ends.
Generation& generation_of_memory() noexcept {
    static Generation in_data{0};
    static Generation* const word = []() noexcept {
        void* const page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page != MAP_FAILED) {
            if (::madvise(page, kPageBytes, MADV_WIPEONFORK) == 0) return static_cast<Generation*>(page);
            ::munmap(page, kPageBytes);
        }
        ::pthread_atfork(nullptr, nullptr, [] { in_data.store(0, std::memory_order_relaxed); });
        return &in_data;
    }();
    return *word;
}

/// The generation of this process. It is greater than in every process it was forked from, because the count of
/// generations is inherited.
std::uint64_t generation_now() noexcept {
    static std::atomic<std::uint64_t> given{0};
    Generation& word = generation_of_memory();
    std::uint64_t now = word.load(std::memory_order_relaxed);
    if (now != 0) return now;
    const std::uint64_t next = given.fetch_add(1, std::memory_order_relaxed) + 1;
    return word.compare_exchange_strong(now, next, std::memory_order_relaxed) ? next : now;
}

}  // namespace

OwnerProcess::OwnerProcess() : generation_(generation_now()), pid_(::getpid()) {}

bool OwnerProcess::has_this_memory() const noexcept {
    return generation_of_memory().load(std::memory_order_relaxed) == generation_;
}

bool OwnerProcess::is_this_process() const noexcept { return has_this_memory() && ::getpid() == pid_; }

}  // namespace vmcow::sys
