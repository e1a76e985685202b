#include "procrun/worker/doorbell.hpp"

#include <sched.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "procrun/worker/call_clock.hpp"

namespace procrun::detail {
namespace {

/// How often the word is read between two readings of the clock.
constexpr int kLooks = 32;

void pause_processor() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

bool spin_until(const std::atomic<std::uint64_t>& word, std::uint64_t wanted, std::int64_t ns) noexcept {
    std::int64_t until = 0;
    while (true) {
        for (int i = 0; i < kLooks; ++i) {
            if (word.load(std::memory_order_acquire) == wanted) return true;
            pause_processor();
        }
        const std::int64_t now = now_ns();
        if (until == 0) until = now + ns;
        if (now >= until) return false;
    }
}

int ring(std::atomic<std::uint64_t>& word, std::uint64_t number, std::atomic<std::uint32_t>& asleep, int fd) noexcept {
    // Sequentially consistent against announce_sleep: either the sleeper sees the number, or this side sees the
    // sleeper.
    word.store(number, std::memory_order_seq_cst);
    if (asleep.load(std::memory_order_seq_cst) == 0 || asleep.exchange(0, std::memory_order_seq_cst) == 0) return 0;
    const char byte = 1;
    while (::write(fd, &byte, 1) < 0) {
        if (errno == EAGAIN) return 0;
        if (errno == EINTR) continue;
        const int error = errno;
        asleep.store(1, std::memory_order_seq_cst);  // the other side still sleeps: the next ring has to write again
        return error;
    }
    return 0;
}

bool announce_sleep(const std::atomic<std::uint64_t>& word, std::uint64_t wanted,
                    std::atomic<std::uint32_t>& asleep) noexcept {
    asleep.store(1, std::memory_order_seq_cst);
    if (word.load(std::memory_order_seq_cst) != wanted) return true;
    asleep.store(0, std::memory_order_relaxed);
    return false;
}

bool end_sleep(std::atomic<std::uint32_t>& asleep, int fd) noexcept {
    asleep.store(0, std::memory_order_relaxed);
    std::array<char, 64> bytes;
    ssize_t got = 0;
    do {
        got = ::read(fd, bytes.data(), bytes.size());
    } while (got < 0 && errno == EINTR);
    return got > 0 || (got < 0 && errno == EAGAIN);
}

std::uint32_t this_processor() noexcept {
    const int processor = ::sched_getcpu();
    return processor < 0 ? 0 : static_cast<std::uint32_t>(processor);
}

unsigned usable_processors() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    const int count = CPU_COUNT(&set);
    return count < 1 ? 1U : static_cast<unsigned>(count);
}

}  // namespace procrun::detail
