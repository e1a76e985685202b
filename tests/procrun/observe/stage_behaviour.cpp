// stage_behaviour TRUTH_FILE SECONDS MODE [NUMBER]: a stage of known behaviour that measures itself. It stops itself at
// first, until the test continues it. At its end it writes to TRUTH_FILE how many nanoseconds it ran, was blocked
// reading, was blocked writing and was waiting.

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr milliseconds kCycle{10};
constexpr std::size_t kBlockBytes = std::size_t{64} << 10;

nanoseconds processor_time(clockid_t clock) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) std::abort();
    return std::chrono::seconds{time.tv_sec} + nanoseconds{time.tv_nsec};
}

/// How long the calling thread has stood on a run queue.
nanoseconds queued_time() {
    // The file describes the thread that opened it, so that a forked child has to open it again.
    static pid_t owner = 0;
    static int file = -1;
    if (owner != getpid()) file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    owner = getpid();
    std::array<char, 128> text{};
    if (pread(file, text.data(), text.size() - 1, 0) <= 0) return nanoseconds{0};
    char* rest = nullptr;
    static_cast<void>(std::strtoll(text.data(), &rest, 10));
    return nanoseconds{std::strtoll(rest, nullptr, 10)};
}

/// A moment in the life of the calling thread.
struct Moment {
    Clock::time_point when;
    nanoseconds busy{0};  ///< time on a processor and on a run queue until `when`

    static nanoseconds busy_time() { return processor_time(CLOCK_THREAD_CPUTIME_ID) + queued_time(); }

    /// Reads both clocks at one moment: repeats when the thread was preempted between the two readings.
    static Moment now() {
        constexpr microseconds kSame{200};
        Moment moment;
        nanoseconds before{0};
        do {
            before = busy_time();
            moment.when = Clock::now();
            moment.busy = busy_time();
        } while (moment.busy - before > kSame);
        return moment;
    }
};

/// The times of the main thread. Time that is in none of the three sums was spent running.
struct Truth {
    nanoseconds blocked_read{0};
    nanoseconds blocked_write{0};
    nanoseconds waiting{0};
    Moment start = Moment::now();

    /// Calls `call` and adds to `asleep` the time in which it neither ran nor was ready to.
    template <class Call>
    auto measure(nanoseconds& asleep, Call&& call) const {
        const Moment began = Moment::now();
        const auto result = call();
        const Moment ended = Moment::now();
        asleep += std::max<nanoseconds>((ended.when - began.when) - (ended.busy - began.busy), nanoseconds{0});
        return result;
    }

    void write_to(const std::string& path) const {
        // Of the time before `start` only the busy part counts, as it does in the test.
        const nanoseconds life = start.busy + (Clock::now() - start.when);
        const nanoseconds running = life - blocked_read - blocked_write - waiting;
        std::FILE* file = std::fopen(path.c_str(), "we");
        if (file == nullptr) std::abort();
        std::fprintf(file, "%lld %lld %lld %lld\n", static_cast<long long>(running.count()),
                     static_cast<long long>(blocked_read.count()), static_cast<long long>(blocked_write.count()),
                     static_cast<long long>(waiting.count()));
        if (std::fclose(file) != 0) std::abort();
    }
};

struct Stage {
    Truth truth;
    Clock::time_point end;
    long number = 0;
    std::array<char, kBlockBytes> block{};

    [[nodiscard]] bool time_is_up() const { return Clock::now() >= end; }

    void spin(nanoseconds time) const {
        const auto until = Clock::now() + time;
        while (Clock::now() < until) {
        }
    }
    void sleep(nanoseconds time) {
        truth.measure(truth.waiting, [&] { return std::this_thread::sleep_for(time), 0; });
    }
    /// Returns false at the end of the input.
    bool read_block() {
        return truth.measure(truth.blocked_read, [&] { return read(STDIN_FILENO, block.data(), block.size()); }) > 0;
    }
    /// Returns false when the pipe has no reader any more.
    bool write_block(std::size_t bytes = kBlockBytes) {
        return truth.measure(truth.blocked_write, [&] { return write(STDOUT_FILENO, block.data(), bytes); }) > 0;
    }
    [[nodiscard]] nanoseconds share_of_cycle() const { return nanoseconds{kCycle} / 100 * number; }
};

void write_fast(Stage& stage) {
    while (!stage.time_is_up() && stage.write_block()) {
    }
}

/// Waits in poll(2) until it can write.
void write_poll(Stage& stage) {
    if (fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK) != 0) std::abort();
    while (!stage.time_is_up()) {
        pollfd wanted{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
        stage.truth.measure(stage.truth.blocked_write, [&] { return poll(&wanted, 1, 1000); });
        if (!stage.write_block() && errno != EAGAIN) return;
    }
}

/// Runs `number` percent of each cycle and sleeps for the rest of it.
void write_busy(Stage& stage) {
    while (!stage.time_is_up() && stage.write_block(1024)) {
        stage.spin(stage.share_of_cycle());
        stage.sleep(kCycle - stage.share_of_cycle());
    }
}

/// Whether a thread of this process is neither running nor ready to.
bool is_asleep(pid_t thread) {
    const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    std::array<char, 256> text{};
    const bool known = read(file, text.data(), text.size() - 1) > 0;
    if (file < 0 || close(file) != 0 || !known) std::abort();
    const char* const bracket = std::strrchr(text.data(), ')');
    return bracket != nullptr && bracket[1] == ' ' && bracket[2] == 'S';
}

/// A second thread that runs when it is told to.
class Companion {
public:
    void run() {
        const std::lock_guard lock(mutex_);
        wanted_ = true;
        changed_.notify_all();
    }
    /// Returns when the thread sleeps. The thread sets `resting_` a while before that, when it is still ready to run.
    void rest() {
        {
            std::unique_lock lock(mutex_);
            wanted_ = false;
            changed_.wait(lock, [this] { return resting_; });
        }
        while (!is_asleep(thread_id_)) std::this_thread::yield();
    }
    void end() {
        over_ = true;
        run();
        thread_.join();
    }

private:
    void work() {
        std::unique_lock lock(mutex_);
        thread_id_ = gettid();
        while (!over_) {
            resting_ = true;
            changed_.notify_all();
            changed_.wait(lock, [this] { return wanted_.load(); });
            resting_ = false;
            lock.unlock();
            while (wanted_ && !over_) {
            }
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::atomic<bool> wanted_ = false;
    std::atomic<bool> over_ = false;
    bool resting_ = false;
    pid_t thread_id_ = 0;
    std::thread thread_{[this] { work(); }};
};

/// Does what write_busy does, with a second thread that runs at the same time.
void write_parallel(Stage& stage) {
    Companion companion;
    while (!stage.time_is_up() && stage.write_block(1024)) {
        companion.run();
        stage.spin(stage.share_of_cycle());
        companion.rest();
        stage.sleep(kCycle - stage.share_of_cycle());
    }
    companion.end();
}

void read_sleep(Stage& stage) {
    while (stage.read_block()) stage.sleep(milliseconds{stage.number});
}

void read_spin(Stage& stage) {
    while (stage.read_block()) stage.spin(milliseconds{stage.number});
}

/// Passes on what it reads.
void relay_poll(Stage& stage) {
    for (;;) {
        pollfd wanted{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
        stage.truth.measure(stage.truth.blocked_read, [&] { return poll(&wanted, 1, -1); });
        stage.spin(milliseconds{stage.number});
        if (!stage.read_block() || !stage.write_block(1024)) return;
    }
}

void read_epoll(Stage& stage) {
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{.events = EPOLLIN, .data = {}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) std::abort();
    do {
        stage.truth.measure(stage.truth.blocked_read, [&] { return epoll_wait(epoll, &event, 1, -1); });
        stage.spin(milliseconds{stage.number});
    } while (stage.read_block());
}

/// The main thread reads and a second thread works: either one of them runs or both sleep.
void read_threads(Stage& stage) {
    std::mutex mutex;
    std::condition_variable changed;
    bool work = false;
    bool over = false;
    std::thread second([&] {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return work || over; });
            if (over) return;
            stage.spin(milliseconds{stage.number});
            work = false;
            changed.notify_one();
        }
    });
    while (stage.read_block()) {
        std::unique_lock lock(mutex);
        work = true;
        changed.notify_one();
        changed.wait(lock, [&] { return !work; });
    }
    {
        const std::lock_guard lock(mutex);
        over = true;
    }
    changed.notify_one();
    second.join();
}

using Mode = void (*)(Stage&);

const std::map<std::string, Mode, std::less<>>& modes() {
    static const std::map<std::string, Mode, std::less<>> kModes{
        {"write_fast", write_fast},         {"write_poll", write_poll}, {"write_busy", write_busy},
        {"write_parallel", write_parallel}, {"read_sleep", read_sleep}, {"read_spin", read_spin},
        {"relay_poll", relay_poll},         {"read_epoll", read_epoll}, {"read_threads", read_threads}};
    return kModes;
}

/// For "wrapped:MODE": waits for the child that runs MODE, as a shell would.
int wait_for_child(pid_t child) {
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) return 2;
    std::string mode = argv[3];
    // The test continues all stages at once, so that the time to load a program does not count as behaviour.
    if (std::raise(SIGSTOP) != 0) return 1;
    static Stage stage;
    static const std::string kWrapped = "wrapped:";
    if (mode.starts_with(kWrapped)) {
        mode.erase(0, kWrapped.size());
        const pid_t child = fork();
        if (child < 0) return 1;
        // The child goes on with its parent's `truth`: the fork is a part of the stage's life in which it ran. With a
        // sanitizer it takes a tenth of a second.
        if (child > 0) _exit(wait_for_child(child));
    }
    const auto found = modes().find(mode);
    if (found == modes().end() || std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return 2;
    stage.end =
        Clock::now() + std::chrono::duration_cast<nanoseconds>(std::chrono::duration<double>(std::atof(argv[2])));
    stage.number = argc > 4 ? std::atol(argv[4]) : 0;
    found->second(stage);
    stage.truth.write_to(argv[1]);
    // Skips the work of a sanitizer at exit, which is no part of the measurement.
    _exit(0);
}
