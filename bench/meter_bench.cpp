// What does it cost to watch a process, beside reading its smaps, and what does it cost the process?
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string>

#include "bench/bench_main.hpp"
#include "bench/bench_support.hpp"
#include "vmcow/measure/process_family.hpp"
#include "vmcow/measure/random.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using bench::BenchSizes;
using bench::die;
using bench::seconds_of;
using vmcow::kPageBytes;

constexpr std::size_t kShareCopied = 100;  // one page in so many

/// A process that has been forked with `bytes`, of which it has copied 1 %, from one that does nothing any more. It
/// copies one page more each time it is asked.
class Target {
public:
    explicit Target(std::size_t bytes) : bytes_(bytes), board_(new (map(MAP_SHARED, sizeof(Board))) Board) {
        parent_ = ::fork();
        if (parent_ < 0) die("fork");
        if (parent_ == 0) {
            memory_ = static_cast<std::byte*>(map(MAP_PRIVATE, bytes_));
            (void)::madvise(memory_, bytes_, MADV_NOHUGEPAGE);
            std::memset(memory_, bench::kFilled, bytes_);
            const pid_t pid = ::fork();
            if (pid == 0) serve();
            board_->pid = pid;
            ::waitpid(pid, nullptr, 0);
            ::_exit(0);
        }
        ask();
    }
    ~Target() {
        ::kill(pid(), SIGKILL);
        ::waitpid(parent_, nullptr, 0);
        ::munmap(board_, sizeof(Board));
    }
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;

    [[nodiscard]] pid_t pid() const { return board_->pid; }
    void ask() const {
        const unsigned number = ++board_->asked;
        while (board_->done != number) ::usleep(100);
    }

private:
    struct Board {
        std::atomic<unsigned> asked;
        std::atomic<unsigned> done;
        std::atomic<pid_t> pid;
    };

    static void* map(int sharing, std::size_t bytes) {
        void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) die("mmap");
        return at;
    }
    [[noreturn]] void serve() const {
        const std::size_t pages = bytes_ / kPageBytes;
        for (std::size_t page = 0; page < pages; page += kShareCopied) memory_[page * kPageBytes] = std::byte{2};
        for (unsigned seen = 0;;) {
            while (board_->asked == seen) ::usleep(100);
            seen = board_->asked;
            memory_[(std::size_t{seen} * 7919 % pages) * kPageBytes] = std::byte{3};
            board_->done = seen;
        }
    }

    std::size_t bytes_;
    std::byte* memory_ = nullptr;
    Board* board_;
    pid_t parent_ = -1;
};

void read_smaps(benchmark::State& state, bool& warm, std::size_t bytes) {
    const Target target(bytes);
    const std::string path = "/proc/" + std::to_string(target.pid()) + "/smaps";
    bench::measure(state, warm, [&] {
        return seconds_of([&] {
            if (vmcow::sys::read_text_file(path).empty()) die("smaps");
        });
    });
}

/// Of the process and its parent.
void look(benchmark::State& state, bool& warm, std::size_t bytes, bool after_write) {
    const Target target(bytes);
    vmcow::measure::ProcessFamily family({});
    family.add(target.pid());
    for (int i = 0; i < 3; ++i) (void)family.look();
    std::uint64_t copied = 0;
    bench::measure(state, warm, [&] {
        if (after_write) target.ask();
        return seconds_of([&] { copied = family.look().total.copied.value; });
    });
    if (copied < bytes / kPageBytes / kShareCopied) die("look");
    state.counters["copied_pages"] = static_cast<double>(copied);
}

/// One byte into pages all over the memory, again and again, by a process that has copied all of it before; the time
/// that it takes.
double seconds_of_writes(std::byte* memory, std::size_t bytes, bool watched) {
    constexpr std::size_t kRounds = 200;
    auto* const seconds = static_cast<std::atomic<double>*>(
        ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (seconds == MAP_FAILED) die("mmap");
    const pid_t pid = ::fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        vmcow::measure::Engine engine(7);
        const std::size_t pages = bytes / kPageBytes;
        for (std::size_t page = 0; page < pages; ++page) memory[page * kPageBytes] = std::byte{2};
        *seconds = seconds_of([&] {
            for (std::size_t i = 0; i < kRounds * pages; ++i) {
                memory[vmcow::measure::bounded(engine, pages) * kPageBytes] = static_cast<std::byte>(i);
            }
        });
        ::_exit(0);
    }
    if (watched) {
        vmcow::measure::ProcessFamily family({});
        family.add(pid);
        for (auto next = std::chrono::steady_clock::now(); ::waitpid(pid, nullptr, WNOHANG) == 0;) {
            if (std::chrono::steady_clock::now() >= next) {
                (void)family.look();
                next += std::chrono::seconds{1};
            }
            ::usleep(10'000);
        }
    } else {
        ::waitpid(pid, nullptr, 0);
    }
    const double took = *seconds;
    ::munmap(seconds, kPageBytes);
    if (!(took > 0)) die("writes");
    return took;
}

void writes(benchmark::State& state, std::size_t bytes, bool watched) {
    auto* const memory =
        static_cast<std::byte*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED) die("mmap");
    (void)::madvise(memory, bytes, MADV_NOHUGEPAGE);
    std::memset(memory, bench::kFilled, bytes);
    bool warm = true;
    bench::measure(state, warm, [&] { return seconds_of_writes(memory, bytes, watched); });
    ::munmap(memory, bytes);
}

void add_rows(const BenchSizes& sizes) {
    const std::size_t bytes = sizes.value_bytes;
    using State = benchmark::State;
    bench::add_row("raw/smaps", sizes, 21, [=](State& state, bool& warm) { read_smaps(state, warm, bytes); });
    bench::add_row("watch/look_again", sizes, 21, [=](State& state, bool& warm) { look(state, warm, bytes, false); });
    bench::add_row("watch/look_after_write", sizes, 21,
                   [=](State& state, bool& warm) { look(state, warm, bytes, true); });
    bench::add_row("raw/writes", sizes, 7, [=](State& state, bool&) { writes(state, bytes, false); });
    bench::add_row("watched/writes", sizes, 7, [=](State& state, bool&) { writes(state, bytes, true); });
}

}  // namespace

int main(int argc, char** argv) {
    return bench::run_benchmark(argc, argv,
                                {.name = "meter_bench",
                                 .question = "What does it cost to watch a process, and the process to be watched?",
                                 .add_rows = add_rows,
                                 .end = [] {}});
}
