#include "bench/call/raw_calls.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <new>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace bench {
namespace {

using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

constexpr int kMadvCollapse = 25;  // MADV_COLLAPSE, for headers older than Linux 6.1
constexpr std::uint64_t kWritten = 7;

/// A reserved range of addresses that begins on a huge page.
class Window {
public:
    explicit Window(std::size_t bytes) : bytes_(bytes), reserved_bytes_(bytes + vmcow::kHugeBytes) {
        constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        reserved_ = ::mmap(nullptr, reserved_bytes_, PROT_NONE, kFlags, -1, 0);
        if (reserved_ == MAP_FAILED) throw_errno("reserve address space");
        at_ = reinterpret_cast<std::byte*>(
            vmcow::round_up(reinterpret_cast<std::uintptr_t>(reserved_), vmcow::kHugeBytes));
    }
    ~Window() { ::munmap(reserved_, reserved_bytes_); }
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    /// Maps `fd` here, in place of the mapping before.
    void map(int sharing, int fd) const {
        constexpr int kFlags = MAP_FIXED | MAP_NORESERVE;
        if (::mmap(at_, bytes_, PROT_READ | PROT_WRITE, sharing | kFlags, fd, 0) == MAP_FAILED) throw_errno("mmap");
    }

    [[nodiscard]] std::byte* at() const noexcept { return at_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
    std::size_t bytes_;
    std::size_t reserved_bytes_;
    void* reserved_;
    std::byte* at_;
};

struct Image {
    UniqueFd fd;
    int collapse_error = 0;
};

/// Makes a memfd and fills it, with huge pages where whole ones fit.
Image filled_image(std::size_t bytes) {
    Image image{UniqueFd(::memfd_create("raw", MFD_CLOEXEC))};
    if (!image.fd || ::ftruncate(image.fd.get(), static_cast<off_t>(bytes)) != 0) throw_errno("memfd");
    const Window window(bytes);
    window.map(MAP_SHARED, image.fd.get());
    const std::size_t huge_bytes = vmcow::round_down(bytes, vmcow::kHugeBytes);
    for (std::size_t i = 0; i < huge_bytes; i += vmcow::kHugeBytes) window.at()[i] = std::byte{kFilled};
    if (huge_bytes > 0 && ::madvise(window.at(), huge_bytes, kMadvCollapse) != 0) image.collapse_error = errno;
    std::memset(window.at(), kFilled, bytes);
    return image;
}

std::uint64_t word_at(const std::byte* at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
}

void write_words(std::byte* value, const std::vector<std::size_t>& offsets) noexcept {
    for (const std::size_t offset : offsets) std::memcpy(value + offset, &kWritten, sizeof kWritten);
    benchmark::ClobberMemory();
}

/// Throws unless the writes are in the window, and in the file if and only if `in_file`.
void verify_words(const Window& window, int fd, const std::vector<std::size_t>& offsets, bool in_file) {
    std::uint64_t untouched = 0;
    std::memset(&untouched, kFilled, sizeof untouched);
    for (const std::size_t offset : offsets) {
        std::uint64_t stored = 0;
        if (::pread(fd, &stored, sizeof stored, static_cast<off_t>(offset)) != sizeof stored) throw_errno("pread");
        if (word_at(window.at() + offset) != kWritten) throw_error(EBADMSG, "a write is missing");
        if (stored != (in_file ? kWritten : untouched)) throw_error(EBADMSG, "the image is not as it should be");
    }
}

void map_private(benchmark::State& state, bool& warm, const BenchSizes& sizes) {
    constexpr int kRounds = 200;
    const Image image = filled_image(sizes.value_bytes);
    const Window window(sizes.value_bytes);
    measure(state, warm, [&] { return seconds_of_each(kRounds, [&] { window.map(MAP_PRIVATE, image.fd.get()); }); });
    if (window.at()[window.bytes() - 1] != std::byte{kFilled}) throw_error(EBADMSG, "mapped is not the image");
    report_pages(state, image.collapse_error);
}

void cow_write(benchmark::State& state, bool& warm, const BenchSizes& sizes, std::size_t pages) {
    const int rounds = static_cast<int>(std::max(std::size_t{2}, 5000 / pages));
    const Image image = filled_image(sizes.value_bytes);
    const Window window(sizes.value_bytes);
    const std::vector<std::size_t> offsets = scattered_offsets(sizes.value_bytes, pages);
    measure(state, warm, [&] {
        return seconds_of_each(rounds, [&] {
            window.map(MAP_PRIVATE, image.fd.get());
            write_words(window.at(), offsets);
        });
    });
    verify_words(window, image.fd.get(), offsets, false);
    report_pages(state, image.collapse_error);
}

void shared_write(benchmark::State& state, bool& warm, const BenchSizes& sizes, std::size_t pages) {
    constexpr int kRounds = 2000;
    const Image image = filled_image(sizes.value_bytes);
    const Window window(sizes.value_bytes);
    window.map(MAP_SHARED, image.fd.get());
    const std::vector<std::size_t> offsets = scattered_offsets(sizes.value_bytes, pages);
    write_words(window.at(), offsets);  // the first write maps each page
    measure(state, warm, [&] { return seconds_of_each(kRounds, [&] { write_words(window.at(), offsets); }); });
    verify_words(window, image.fd.get(), offsets, true);
    report_pages(state, image.collapse_error);
}

/// A forked process. It is killed when its owner is destroyed or the thread that forked it ends, however it ends.
class Child {
public:
    template <class Body>
    explicit Child(const Body& body) {
        const pid_t parent = ::getpid();
        pid_ = ::fork();
        if (pid_ < 0) throw_errno("fork");
        if (pid_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::_exit(::getppid() == parent ? body() : 1);
    }
    ~Child() {
        if (pid_ < 0) return;
        vmcow::sys::signal_process(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    /// Waits until the child has exited, and returns its exit status.
    int exit_status() {
        int status = 0;
        if (::waitpid(pid_, &status, 0) != pid_) throw_errno("waitpid");
        pid_ = -1;
        if (!WIFEXITED(status)) throw_error(ECHILD, "the child was killed");
        return WEXITSTATUS(status);
    }

private:
    pid_t pid_ = -1;
};

/// A caller without the library forks, with the value in ordinary heap pages. The child writes a byte and exits.
void fork_heap(benchmark::State& state, bool& warm, const BenchSizes& sizes) {
    const Window heap(sizes.value_bytes);
    heap.map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    std::memset(heap.at(), kFilled, heap.bytes());
    std::byte& touched = heap.at()[kTouched];
    const auto write_and_tell = [&] {
        touched = std::byte{kWritten};
        return static_cast<int>(touched);
    };
    measure(state, warm, [&] {
        return seconds_of([&] {
            if (Child(write_and_tell).exit_status() != kWritten) throw_error(EBADMSG, "the child did not write");
        });
    });
    if (touched != std::byte{kFilled}) throw_error(EBADMSG, "the child wrote to the parent's memory");
}

/// A request and a reply in shared memory, each on its own cache line.
struct Words {
    alignas(64) std::atomic<std::uint32_t> request{0};
    alignas(64) std::atomic<std::uint32_t> reply{0};
};

class SharedWords {
public:
    SharedWords() : at_(::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        if (at_ == MAP_FAILED) throw_errno("mmap");
        new (at_) Words;
    }
    ~SharedWords() { ::munmap(at_, sizeof(Words)); }
    SharedWords(const SharedWords&) = delete;
    SharedWords& operator=(const SharedWords&) = delete;

    [[nodiscard]] Words& operator*() const noexcept { return *static_cast<Words*>(at_); }

private:
    void* at_;
};

/// How often a waiting process checks before it sleeps: not at all if the other process cannot run at the same time.
int spins_before_sleep() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) throw_errno("sched_getaffinity");
    return CPU_COUNT(&allowed) > 1 ? 20000 : 0;
}

/// Leaves the core to its other hardware thread for a moment.
void rest() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Waits until `word` is `wanted`. False after ten seconds: then the other process is gone. Async-signal-safe.
/// Source: futex(2), without FUTEX_PRIVATE_FLAG, because the other side is another process.
bool await_word(std::atomic<std::uint32_t>& word, std::uint32_t wanted, int spins) noexcept {
    constexpr timespec kPatience{10, 0};
    for (int i = 0; i < spins; ++i) {
        if (word.load(std::memory_order_acquire) == wanted) return true;
        rest();
    }
    for (;;) {
        const std::uint32_t seen = word.load(std::memory_order_acquire);
        if (seen == wanted) return true;
        if (::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &kPatience, nullptr, 0) != 0 && errno == ETIMEDOUT) {
            return false;
        }
    }
}

void publish_word(std::atomic<std::uint32_t>& word, std::uint32_t value) noexcept {
    word.store(value, std::memory_order_release);
    ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

/// The plain protocol: spin, then sleep in the kernel. Every word wakes the other side, whether it sleeps or not.
void ping_pong(benchmark::State& state, bool& warm) {
    constexpr int kRounds = 2000;
    const int spins = spins_before_sleep();
    const SharedWords shared;
    Words& words = *shared;
    const Child partner([&words, spins] {
        std::uint32_t number = 0;
        while (await_word(words.request, ++number, spins)) publish_word(words.reply, number);
        return 1;
    });
    std::uint32_t number = 0;
    const auto round_trip = [&] {
        publish_word(words.request, ++number);
        if (!await_word(words.reply, number, spins)) throw_error(ETIMEDOUT, "the other process does not answer");
    };
    // Each repetition has a new partner, which the kernel has to move to another processor first.
    static_cast<void>(seconds_of_each(kRounds, round_trip));
    measure(state, warm, [&] { return seconds_of_each(kRounds, round_trip); });
    if (spins == 0) state.SetLabel("one processor: every word wakes the other process");
}

}  // namespace

void register_raw_rows(const BenchSizes& sizes) {
    using benchmark::State;
    add_row("raw/ping_pong", sizes, 51, [](State& state, bool& warm) { ping_pong(state, warm); });
    add_row("raw/map_private", sizes, 11, [sizes](State& state, bool& warm) { map_private(state, warm, sizes); });
    add_row("raw/fork_heap", sizes, 9, [sizes](State& state, bool& warm) { fork_heap(state, warm, sizes); });
    for (const std::size_t pages : {std::size_t{16}, std::size_t{256}, std::size_t{4096}}) {
        add_row("raw/cow_write/" + std::to_string(pages), sizes, 11,
                [sizes, pages](State& state, bool& warm) { cow_write(state, warm, sizes, pages); });
    }
    add_row("raw/shared_write/256", sizes, 11,
            [sizes](State& state, bool& warm) { shared_write(state, warm, sizes, 256); });
}

}  // namespace bench
