#pragma once

#include <string>
#include <system_error>

namespace procrun {

/// How a function process or a program ended. Every one of these is expected: none is an exception in the caller.
enum class OutcomeKind {
    returned,         ///< the function returned; its result came back
    exited,           ///< exit(2); `code` is the exit status
    signaled,         ///< killed by a signal; `code` is its number, `text` where it was then, if that is known
    threw,            ///< the function threw; `text` is the exception's text
    deadline_passed,  ///< ended by us because it ran past its deadline; `code` is the signal that ended it, 0 if none
                      ///< was needed
    not_started,      ///< never ran; `code` is the errno and `text` the step that failed, as in "execve 'sort'"
    limit_exceeded,   ///< ended by us because it used more than it may; `text` says what, how much, and how it was seen
    cancelled,        ///< taken back by the caller, before or while it ran
    result_lost,      ///< ran, but what it sent back could not be taken; `code` is the errno and `text` the step
};

/// A name as it stands in JSON: "returned", "exited", and so on, as the enumerator is written.
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

/// What never ran because the kernel refused something, in doing `step`.
[[nodiscard]] Outcome refusal_of(const std::system_error& error, const std::string& step);
/// What an error says, without the description of its errno, which `describe` adds.
[[nodiscard]] std::string text_of(const std::system_error& error);

}  // namespace procrun
