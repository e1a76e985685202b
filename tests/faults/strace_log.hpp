#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace faults {

/// How a process ended: with a status or by a signal.
struct ProcessEnd {
    int status = 0;
    std::string signal;  ///< "SIGSEGV"; empty for a status
};

/// One line of `strace -f -o`.
struct LogLine {
    pid_t pid = 0;
    std::string_view call;       ///< name of the call that the line begins; else empty
    std::string_view arguments;  ///< the rest of the line, from the bracket on
    std::optional<ProcessEnd> end;
    bool injected = false;

    /// True for a failed write to standard error: the line that gives the reason cannot appear.
    [[nodiscard]] bool is_refused_complaint() const;
};

/// nullopt for a line without a process number.
[[nodiscard]] std::optional<LogLine> parse_log_line(std::string_view line);

/// The calls of every process in one run without a fault, as strace numbers them. A process that has executed a program
/// from elsewhere is not counted any more: the calls of sort(1) and its loader are not ours.
class Recording {
public:
    explicit Recording(std::string programs) : programs_(std::move(programs)) {}

    void add(const LogLine& line);

    /// For each name, the largest number of such calls that one process made.
    [[nodiscard]] std::map<std::string, unsigned> most() const;
    /// The calls of each name that the C library made in the first process before main(): the start of a static program
    /// ends with its first mprotect(2).
    [[nodiscard]] const std::map<std::string, unsigned>& before_main() const noexcept { return before_main_; }

private:
    std::string programs_;  // directory of our own programs
    std::set<pid_t> foreign_;
    std::map<pid_t, std::map<std::string, unsigned>> counts_;
    std::map<std::string, unsigned> before_main_;
    pid_t first_ = 0;
    bool in_main_ = false;
};

}  // namespace faults
