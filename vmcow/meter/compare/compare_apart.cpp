#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "vmcow/meter/compare/engines.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/forked_child.hpp"

namespace vmcow::meter {
namespace {

/// What the process reports: its figures, or why there are none.
struct Report {
    EngineNumbers numbers;
    bool failed = false;
    std::array<char, 256> why{};
};
static_assert(std::is_trivially_copyable_v<Report>, "it goes through a pipe");

std::span<std::byte> bytes_of(Report& report) { return std::as_writable_bytes(std::span(&report, 1)); }

void note_failure(Report& report, std::string_view why) noexcept {
    report.failed = true;
    why.copy(report.why.data(), report.why.size() - 1);
}

int tell(int pipe, std::string_view name, const Workload& workload, std::uint64_t children) noexcept {
    Report report;
    try {
        try {
            report.numbers = run_engine(name, workload, children);
        } catch (const std::bad_alloc&) {
            note_failure(report, "out of memory");
        } catch (const std::exception& error) {
            note_failure(report, error.what());
        }
        sys::write_all(pipe, bytes_of(report), "pipe");
        return 0;
    } catch (const std::exception&) {
        return 1;  // the parent has closed its end of the pipe
    }
}

std::string how_it_ended(const std::optional<int>& status) {
    if (!status) return "its process is gone";
    if (WIFSIGNALED(*status)) return fmt::format("its process was killed by signal {}", WTERMSIG(*status));
    return fmt::format("its process ended with status {}", WEXITSTATUS(*status));
}

}  // namespace

EngineFigures run_engine_apart(std::string_view name, const Workload& workload, std::uint64_t children) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) sys::throw_errno("pipe2");
    const sys::UniqueFd reader(ends[0]);
    sys::UniqueFd writer(ends[1]);
    sys::ForkedChild process([&] { return tell(writer.get(), name, workload, children); });
    writer.reset();
    Report report;
    if (sys::read_full(reader.get(), bytes_of(report), "pipe") < sizeof report) {
        throw std::runtime_error(fmt::format("{}: {}", name, how_it_ended(process.wait())));
    }
    if (report.failed) throw std::runtime_error(fmt::format("{}: {}", name, report.why.data()));
    EngineFigures figures;
    static_cast<EngineNumbers&>(figures) = report.numbers;
    figures.name = name;
    return figures;
}

}  // namespace vmcow::meter
