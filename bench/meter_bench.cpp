// What does it cost to watch a process, beside reading its smaps, and what does it cost the watched process?
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "bench/bench_main.hpp"
#include "bench/bench_support.hpp"
#include "vmcow/meter/model/random.hpp"
#include "vmcow/meter/stacks/fault_sampler.hpp"
#include "vmcow/meter/watch/process_family.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/perf_events.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using bench::BenchSizes;
using bench::die;
using bench::seconds_of;
using vmcow::kPageBytes;

constexpr std::size_t kShareCopied = 100;  // one page in this many is copied

void* map_shared(std::size_t bytes) {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

void* map_private(std::size_t bytes) {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    (void)::madvise(at, bytes, MADV_NOHUGEPAGE);
    return at;
}

/// A process that was forked with `bytes`, of which it has copied 1 %, from a parent that only waits for it. It copies
/// one more page each time it is asked.
class Target {
public:
    explicit Target(std::size_t bytes) : bytes_(bytes), board_(new (map_shared(sizeof(Board))) Board) {
        parent_ = ::fork();
        if (parent_ < 0) die("fork");
        if (parent_ == 0) {
            memory_ = static_cast<std::byte*>(map_private(bytes_));
            std::memset(memory_, bench::kFilled, bytes_);
            const pid_t pid = ::fork();
            if (pid < 0) die("fork");
            if (pid == 0) {
                // The serving process stores its number before it answers, so that the number is known after an answer.
                board_->pid = ::getpid();
                serve();
            }
            ::waitpid(pid, nullptr, 0);
            ::_exit(0);
        }
        ask();
    }
    ~Target() {
        vmcow::sys::signal_process(pid(), SIGKILL);
        ::waitpid(parent_, nullptr, 0);
        ::munmap(board_, sizeof(Board));
    }
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;

    [[nodiscard]] pid_t pid() const { return board_->pid; }
    void ask() const {
        const unsigned number = ++board_->asked;
        while (board_->done != number) {
            if (::waitpid(parent_, nullptr, WNOHANG) != 0) die("the process to look at has ended");
            ::usleep(100);
        }
    }

private:
    struct Board {
        std::atomic<unsigned> asked;
        std::atomic<unsigned> done;
        std::atomic<pid_t> pid;
    };

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

/// A look at the process and its parent.
enum class Look {
    again,        ///< nothing has happened since the last look
    after_write,  ///< a page was copied, and page faults tell where
    at_all,       ///< a page was copied, and all pages are looked at
};
void look(benchmark::State& state, bool& warm, std::size_t bytes, Look kind) {
    const Target target(bytes);
    vmcow::meter::ProcessFamily family({.follow_faults = kind == Look::after_write});
    family.add(target.pid());
    std::uint64_t copied = 0;
    const auto round = [&] {
        if (kind != Look::again) target.ask();
        return seconds_of([&] { copied = family.look().total.copied.value; });
    };
    for (int i = 0; i < 5; ++i) round();  // the first looks find that everything is new
    bench::measure(state, warm, round);
    if (copied < bytes / kPageBytes / kShareCopied) die("look");
    state.counters["copied_pages"] = static_cast<double>(copied);
    state.counters["guided_looks"] = static_cast<double>(family.cost().guided_scans);
}

/// A process that works and counts its work, until it is killed.
class Worker {
public:
    using Count = std::atomic<std::uint64_t>;

    /// `work` never returns.
    template <class Work>
    explicit Worker(const Work& work) : done_(new (map_shared(sizeof(Count))) Count(0)) {
        pid_ = ::fork();
        if (pid_ < 0) die("fork");
        if (pid_ == 0) work(*done_);
        while (*done_ == 0) ::usleep(1000);
    }
    ~Worker() {
        vmcow::sys::signal_process(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        ::munmap(done_, sizeof(Count));
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] double done() const { return static_cast<double>(*done_); }

private:
    Count* done_;
    pid_t pid_ = -1;
};

/// Writes one byte each to random pages without pause.
[[noreturn]] void write_pages(std::size_t bytes, Worker::Count& done) {
    auto* const memory = static_cast<std::byte*>(map_private(bytes));
    std::memset(memory, bench::kFilled, bytes);
    vmcow::meter::RandomEngine engine(7);
    for (;;) {
        for (int i = 0; i < 64; ++i) {
            memory[vmcow::meter::bounded(engine, bytes / kPageBytes) * kPageBytes] = static_cast<std::byte>(i);
        }
        done.fetch_add(64, std::memory_order_relaxed);
    }
}

/// How long the writer takes, with one look a second, for what it gets done in a second alone. The writer loses time
/// only during the look. So the writes during the look are compared with those in an equally long time right before:
/// over seconds, the machine itself changes by more than the loss. Each look goes through all pages, as after
/// page faults.
void writes(benchmark::State& state, bool& warm, std::size_t bytes, bool watched) {
    const Worker writer([bytes](Worker::Count& done) { write_pages(bytes, done); });
    vmcow::meter::ProcessFamily family({.follow_faults = true});
    family.add(writer.pid());
    double pause = 0.01;
    bench::measure(state, warm, [&] {
        const auto count = [&](const auto& work) {
            const double before = writer.done();
            const double seconds = seconds_of(work);
            return std::pair(writer.done() - before, seconds);
        };
        const auto sleep = [&] { ::usleep(static_cast<useconds_t>(pause * 1e6)); };
        const auto [alone, alone_seconds] = count(sleep);
        const auto [beside, seconds] = watched ? count([&] { (void)family.look(true); }) : count(sleep);
        pause = std::max(0.005, seconds);
        const double lost = seconds - beside / (alone / alone_seconds);
        return 1 + lost;
    });
}

/// Forks children that do nothing, and copies its memory page by page while each exists. It does nothing but copy on
/// write, so it has as many page faults as possible.
[[noreturn]] void copy_pages(std::size_t bytes, Worker::Count& done) {
    auto* const memory = static_cast<std::byte*>(map_private(bytes));
    std::memset(memory, bench::kFilled, bytes);
    const pid_t self = ::getpid();
    for (;;) {
        const pid_t sharer = ::fork();
        if (sharer == 0) {
            if (!vmcow::sys::die_with_parent(self)) ::_exit(0);
            for (;;) ::pause();
        }
        for (std::size_t page = 0; page < bytes / kPageBytes; ++page) {
            memory[page * kPageBytes] = std::byte{2};
            done.fetch_add(1, std::memory_order_relaxed);
        }
        vmcow::sys::signal_process(sharer, SIGKILL);
        ::waitpid(sharer, nullptr, 0);
    }
}

/// What the copier loses while its faults are sampled, beside an equally long time right before: 1 and the share lost.
void copies(benchmark::State& state, bool& warm, std::size_t bytes, bool sampled) {
    constexpr int kDrains = 4;
    constexpr useconds_t kBetweenDrains = 50'000;  // as often as a command reads samples when there are many
    constexpr std::size_t kMostBytes = std::size_t{64} << 20;
    const std::size_t own = std::min(bytes, kMostBytes);
    const Worker copier([own](Worker::Count& done) { copy_pages(own, done); });
    std::uint64_t seen = 0;
    bench::measure(state, warm, [&] {
        const auto rate = [&](const auto& drain) {
            const double before = copier.done();
            const double seconds = seconds_of([&] {
                for (int i = 0; i < kDrains; ++i) {
                    ::usleep(kBetweenDrains);
                    drain();
                }
            });
            return (copier.done() - before) / seconds;
        };
        const double alone = rate([] {});
        if (!sampled) return 2 - rate([] {}) / alone;
        vmcow::meter::FaultSampler sampler({.events = {.period = 0}});
        if (sampler.follow(copier.pid()) != 0) die("perf_event_open");
        const double beside = rate([&] { sampler.drain(); });
        seen += sampler.counts().seen;
        return 2 - beside / alone;
    });
    if (sampled && seen == 0) die("no samples");
}

void add_rows(const BenchSizes& sizes) {
    const std::size_t bytes = sizes.value_bytes;
    using State = benchmark::State;
    bench::add_row("raw/smaps", sizes, 21, [=](State& state, bool& warm) { read_smaps(state, warm, bytes); });
    bench::add_row("watch/look_again", sizes, 21,
                   [=](State& state, bool& warm) { look(state, warm, bytes, Look::again); });
    bench::add_row("watch/look_at_all", sizes, 21,
                   [=](State& state, bool& warm) { look(state, warm, bytes, Look::at_all); });
    bench::add_row("raw/writes", sizes, 51, [=](State& state, bool& warm) { writes(state, warm, bytes, false); });
    bench::add_row("watched/writes", sizes, 51, [=](State& state, bool& warm) { writes(state, warm, bytes, true); });
    if (const int error = vmcow::sys::perf_faults_error(); error != 0) {
        (void)std::fprintf(stderr, "meter_bench: no rows with page faults as perf events, which are refused: %s\n",
                           std::strerror(error));
        return;
    }
    bench::add_row("watch/look_after_write", sizes, 21,
                   [=](State& state, bool& warm) { look(state, warm, bytes, Look::after_write); });
    bench::add_row("raw/copies", sizes, 25, [=](State& state, bool& warm) { copies(state, warm, bytes, false); });
    bench::add_row("stacks/copies", sizes, 25, [=](State& state, bool& warm) { copies(state, warm, bytes, true); });
}

}  // namespace

int main(int argc, char** argv) {
    return bench::run_benchmark(argc, argv,
                                {.name = "meter_bench",
                                 .question = "What does it cost to watch a process, and the process to be watched?",
                                 .add_rows = add_rows,
                                 .end = [] {}});
}
