#pragma once

#include <string>

namespace procrun {

/// How a function process or a program ended. Every one of these is expected: none is an exception in the caller.
enum class OutcomeKind {
    returned,         ///< the function returned; its result came back
    exited,           ///< exit(2); `code` is the exit status
    signaled,         ///< killed by a signal; `code` is its number
    threw,            ///< the function threw; `text` is the exception's text
    deadline_passed,  ///< ended by us because it ran past its deadline; `code` is the signal that ended it
    not_started,      ///< never ran; `code` is the errno and `text` the step that failed, as in "execve 'sort'"
};

/// A name as it stands in JSON: "returned", "exited", "signaled", "threw", "deadline_passed", "not_started".
[[nodiscard]] const char* name_of(OutcomeKind kind) noexcept;

/// What came of one call or one program.
struct Outcome {
    OutcomeKind kind = OutcomeKind::returned;
    int code = 0;
    std::string text;

    /// True for a function that returned and for a program that exited with 0.
    [[nodiscard]] bool ok() const noexcept;
    /// One line for people: "exit 3", "killed by SIGSEGV", "threw: bad row 7", "execve 'sorrt': No such file or
    /// directory".
    [[nodiscard]] std::string describe() const;
};

}  // namespace procrun
