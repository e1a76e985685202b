#pragma once

#include <string>
#include <system_error>

namespace procrun {

/// How a function process or a program ended. Each of these is expected: none is an exception in the caller.
enum class OutcomeKind {
    returned,         ///< the function returned; its result came back
    exited,           ///< exit(2); `code` is the exit status
    signaled,         ///< killed by a signal; `code` is its number, `text` says where the process was, if that is known
    threw,            ///< the function threw; `text` is the exception's text
    deadline_passed,  ///< we ended it at its deadline; `code` is the signal that ended it, 0 if none was needed
    not_started,      ///< never ran; `code` is the errno and `text` the step that failed, as in "execve 'sort'"
    limit_exceeded,   ///< we ended it because it used more than it may; `text` says what, how much, and how it was seen
    cancelled,        ///< the caller took it back, before or while it ran
    result_lost,      ///< ran, but its result could not be taken; `code` is the errno and `text` the step
    unknown,          ///< ended in an unknown way, as when a handler of SIGCHLD has reaped it; `text` says why
};

/// The enumerator's name, as it stands in JSON: "returned", "exited", and so on.
[[nodiscard]] const char* name_of(OutcomeKind kind) noexcept;

/// How one call or one program ended.
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

/// The outcome `not_started` of a call that never ran because the kernel refused something in `step`.
[[nodiscard]] Outcome refusal_of(const std::system_error& error, const std::string& step);
/// The text of an error without the description of its errno, which `Outcome::describe` adds.
[[nodiscard]] std::string text_of(const std::system_error& error);

}  // namespace procrun
