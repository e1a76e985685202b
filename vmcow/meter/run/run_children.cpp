#include "vmcow/meter/run/run_children.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "vmcow/image/mapped_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/forked_child.hpp"

namespace vmcow::meter {
namespace {

/// What a child reports: its run, or why there is none.
struct Report {
    ViewRun run;
    bool failed = false;
    std::array<char, 256> why{};
};
static_assert(std::is_trivially_copyable_v<Report>, "it goes through a pipe");

std::span<std::byte> bytes_of(Report& report) { return std::as_writable_bytes(std::span(&report, 1)); }

struct Pipe {
    Pipe() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) sys::throw_errno("pipe2");
        reader = sys::UniqueFd(ends[0]);
        writer = sys::UniqueFd(ends[1]);
    }

    sys::UniqueFd reader;
    sys::UniqueFd writer;
};

/// Allocates nothing, because an allocation may be what failed.
void note_failure(Report& report, std::string_view why) noexcept {
    report.failed = true;
    why.copy(report.why.data(), report.why.size() - 1);
}

/// A child that writes, reports what the writes did, and stays until it is killed.
class RunningChild {
public:
    RunningChild(const Workload& workload, const WrittenImage& image, sys::PageScanMethod page_scan)
        : child_(start(workload, image, page_scan)) {
        report_.writer.reset();
    }

    /// Waits until the child has written and counted. `name` is for messages.
    [[nodiscard]] ViewRun run(const std::string& name) {
        Report report;
        if (sys::read_full(report_.reader.get(), bytes_of(report), "pipe") < sizeof(report)) {
            throw std::runtime_error(name + " ended before it reported its run" + how_it_ended());
        }
        if (report.failed) throw std::runtime_error(name + ": " + report.why.data());
        return report.run;
    }

private:
    [[nodiscard]] sys::ForkedChild start(const Workload& workload, const WrittenImage& image,
                                         sys::PageScanMethod page_scan) const {
        ImagesInFork images;
        return sys::ForkedChild([&] {
            Report report;
            if (const int error = images.map_again(); error != 0) {
                note_failure(report, std::strerror(error));
            } else {
                fill(report, workload, image, page_scan);
            }
            return tell(report);
        });
    }

    static void fill(Report& report, const Workload& workload, const WrittenImage& image,
                     sys::PageScanMethod page_scan) noexcept {
        try {
            warm_up(workload, image.snapshot.map_private());
            // The view and its copies must exist until the process ends.
            auto* const view = new View(image.snapshot.map_private());
            report.run = run_in_view(workload, *view, page_scan);
        } catch (const std::exception& error) {
            note_failure(report, error.what());
        }
    }

    [[nodiscard]] int tell(Report& report) const noexcept {
        try {
            sys::write_all(report_.writer.get(), bytes_of(report), "pipe");
        } catch (const std::exception&) {
            return 1;  // the parent has closed its end of the pipe
        }
        for (;;) ::pause();
    }

    [[nodiscard]] std::string how_it_ended() {
        const std::optional<int> status = child_.wait();
        if (!status) return "";
        if (WIFSIGNALED(*status)) return ": killed by signal " + std::to_string(WTERMSIG(*status));
        return ": exit status " + std::to_string(WEXITSTATUS(*status));
    }

    Pipe report_;
    sys::ForkedChild child_;
};

}  // namespace

Workload workload_of_child(const Workload& workload, std::uint64_t index) {
    Workload own = workload;
    own.seed += index;
    return own;
}

std::vector<ViewRun> run_children(const Workload& workload, std::uint64_t children, const WrittenImage& image,
                                  sys::PageScanMethod page_scan) {
    VMCOW_ASSERT(children > 0);
    std::vector<RunningChild> running;
    running.reserve(children);
    for (std::uint64_t i = 0; i < children; ++i) {
        running.emplace_back(workload_of_child(workload, i), image, page_scan);
    }
    const Expectation expected = expect_copied(workload);
    std::vector<ViewRun> runs;
    for (std::uint64_t i = 0; i < children; ++i) {
        runs.push_back(running[i].run("child " + std::to_string(i + 1)));
        runs.back().figures.distinct_bytes = count_distinct(workload_of_child(workload, i));
        runs.back().expected = expected;
    }
    return runs;
}

ViewRun sum_of(const std::vector<ViewRun>& runs) noexcept {
    VMCOW_ASSERT(!runs.empty());
    ViewRun sum = runs.front();
    for (std::size_t i = 1; i < runs.size(); ++i) sum += runs[i];
    return sum;
}

}  // namespace vmcow::meter
