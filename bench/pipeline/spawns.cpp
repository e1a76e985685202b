#include "bench/pipeline/spawns.hpp"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/launcher.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/program.hpp"
#include "vmcow/sys/error.hpp"

namespace bench {
namespace {

using procrun::Launcher;
using procrun::Program;
using vmcow::sys::throw_errno;

constexpr int kRounds = 30;
constexpr int kForks = 3;  // a fork from 4 GiB takes as long as all other rounds
constexpr const char* kTrue = "/bin/true";

// Both sides find programs by their full path, so that no row measures a search of PATH.
const std::string& three_true() {
    static const std::string text = std::string(kTrue) + " | " + kTrue + " | " + kTrue;
    return text;
}

/// Memory of this process in small pages, all touched. A fork has to copy its page tables.
class TouchedMemory {
public:
    explicit TouchedMemory(std::size_t bytes)
        : bytes_(bytes), at_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        if (at_ == MAP_FAILED) throw_errno("mmap");
        static_cast<void>(::madvise(at_, bytes_, MADV_NOHUGEPAGE));  // EINVAL: a kernel without huge pages
        std::memset(at_, kFilled, bytes_);
    }
    ~TouchedMemory() { ::munmap(at_, bytes_); }
    TouchedMemory(const TouchedMemory&) = delete;
    TouchedMemory& operator=(const TouchedMemory&) = delete;

private:
    std::size_t bytes_;
    void* at_;
};

void launch_and_reap(const Program& program) {
    auto started = program.start(Launcher::shared());
    if (const auto* const refused = std::get_if<procrun::Outcome>(&started)) {
        throw std::runtime_error(refused->describe());
    }
    const auto ended = std::get<procrun::Process>(started).wait();
    if (!ended.outcome.ok()) throw std::runtime_error(ended.outcome.describe());
}

void reap_raw(pid_t pid) {
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid) throw_errno("waitpid");
    if (status != 0) throw std::runtime_error("a child did not end well");
}

void fork_and_reap() {
    const pid_t pid = ::fork();
    if (pid < 0) throw_errno("fork");
    if (pid == 0) {
        ::execl(kTrue, kTrue, nullptr);
        ::_exit(1);
    }
    reap_raw(pid);
}

void posix_spawn_and_reap() {
    std::string word = kTrue;
    char* const words[] = {word.data(), nullptr};
    pid_t pid = -1;
    if (const int error = ::posix_spawn(&pid, kTrue, nullptr, nullptr, words, environ); error != 0) {
        vmcow::sys::throw_error(error, "posix_spawn");
    }
    reap_raw(pid);
}

void run_library_pipeline() {
    static const procrun::PipelineText text = procrun::parse_pipeline(three_true());
    const auto report = procrun::run_pipeline(text);
    if (report.status != 0) throw std::runtime_error("the pipeline did not end well");
}

template <class Work>
void measure_starts(benchmark::State& state, bool& warm, int rounds, const Work& work) {
    measure(state, warm, [&] { return seconds_of_each(rounds, work); });
}

/// Measures `work` in a process that has four times the value in memory. The memory is released after each repetition,
/// so that no other row has it.
template <class Work>
void measure_starts_beside_memory(benchmark::State& state, const BenchSizes& sizes, int rounds, const Work& work) {
    const TouchedMemory memory(4 * sizes.value_bytes);
    bool warm = true;
    work();
    measure_starts(state, warm, rounds, work);
}

}  // namespace

void register_spawn_rows(const BenchSizes& sizes) {
    using State = benchmark::State;
    const auto launch = [program = Program({kTrue})] { launch_and_reap(program); };
    const auto dash = [program = Program({"dash", "-c", three_true()})] { launch_and_reap(program); };
    constexpr int kRepetitions = 15;
    constexpr int kRepetitionsBesideMemory = 5;

    const auto add = [&](const char* name, auto work) {
        add_row(name, sizes, kRepetitions,
                [work](State& state, bool& warm) { measure_starts(state, warm, kRounds, work); });
    };
    const auto add_beside_memory = [&](const char* name, int rounds, auto work) {
        add_row(name, sizes, kRepetitionsBesideMemory, [sizes, rounds, work](State& state, bool&) {
            measure_starts_beside_memory(state, sizes, rounds, work);
        });
    };
    add("spawn/from_small", launch);
    add("pipeline/3_true", run_library_pipeline);
    add("raw/dash_3_true", dash);
    add_beside_memory("spawn/from_4GiB", kRounds, launch);
    add_beside_memory("raw/fork_exec_from_4GiB", kForks, fork_and_reap);
    add_beside_memory("raw/vfork_exec_from_4GiB", kRounds, posix_spawn_and_reap);
}

}  // namespace bench
