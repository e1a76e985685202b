#include "procrun/outcome.hpp"

#include <csignal>
#include <cstring>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

// sigabbrev_np(3) and strerrordesc_np(3) rather than strsignal and strerror: they are thread-safe and never translated.

std::string name_of_signal(int number) {
    const char* abbreviation = sigabbrev_np(number);
    return abbreviation != nullptr ? fmt::format("SIG{}", abbreviation) : fmt::format("signal {}", number);
}

std::string name_of_error(int error) {
    const char* description = strerrordesc_np(error);
    return description != nullptr ? description : fmt::format("error {}", error);
}

}  // namespace

const char* name_of(OutcomeKind kind) noexcept {
    switch (kind) {
        case OutcomeKind::returned:
            return "returned";
        case OutcomeKind::exited:
            return "exited";
        case OutcomeKind::signaled:
            return "signaled";
        case OutcomeKind::threw:
            return "threw";
        case OutcomeKind::deadline_passed:
            return "deadline_passed";
        case OutcomeKind::not_started:
            return "not_started";
        case OutcomeKind::limit_exceeded:
            return "limit_exceeded";
        case OutcomeKind::cancelled:
            return "cancelled";
        case OutcomeKind::result_lost:
            return "result_lost";
        case OutcomeKind::unknown:
            return "unknown";
    }
    vmcow::sys::assert_failed("OutcomeKind is one of its enumerators", __FILE__, __LINE__);
}

bool Outcome::ok() const noexcept {
    return kind == OutcomeKind::returned || (kind == OutcomeKind::exited && code == 0);
}

std::string Outcome::describe() const {
    switch (kind) {
        case OutcomeKind::returned:
            return "returned";
        case OutcomeKind::exited:
            return fmt::format("exit {}", code);
        case OutcomeKind::signaled:
            return text.empty() ? fmt::format("killed by {}", name_of_signal(code))
                                : fmt::format("killed by {} {}", name_of_signal(code), text);
        case OutcomeKind::threw:
            return fmt::format("threw: {}", text);
        case OutcomeKind::deadline_passed:
            return code == 0 ? "deadline passed in the queue"
                             : fmt::format("deadline passed, ended by {}", name_of_signal(code));
        case OutcomeKind::not_started:
            return fmt::format("{}: {}", text, name_of_error(code));
        case OutcomeKind::limit_exceeded:
            return fmt::format("limit exceeded: {}", text);
        case OutcomeKind::cancelled:
            return text.empty() ? "cancelled" : fmt::format("cancelled {}", text);
        case OutcomeKind::result_lost:
            return fmt::format("result lost: {}: {}", text, name_of_error(code));
        case OutcomeKind::unknown:
            return fmt::format("ended, how is unknown: {}", text);
    }
    vmcow::sys::assert_failed("OutcomeKind is one of its enumerators", __FILE__, __LINE__);
}

std::string text_of(const std::system_error& error) {
    std::string text = error.what();
    const std::string suffix = ": " + error.code().message();
    if (text.ends_with(suffix)) text.resize(text.size() - suffix.size());
    return text;
}

Outcome refusal_of(const std::system_error& error, const std::string& step) {
    return {OutcomeKind::not_started, error.code().value(), step + ": " + text_of(error)};
}

}  // namespace procrun
