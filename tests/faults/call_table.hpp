#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace faults {

/// The errors that one system call can be made to give.
struct CallErrors {
    std::string_view call;
    std::vector<std::string_view> errors;  ///< given once, and also to each call from then on
    std::vector<std::string_view> once;    ///< given only once: the kernel does not repeat EINTR or ECONNRESET
};

/// The calls that are failed, and with which errors.
[[nodiscard]] const std::vector<CallErrors>& failed_calls();

/// A call that is left out, and why. It is never failed, but a process is killed at it.
struct LeftOut {
    std::string_view call;
    std::string_view reason;
};
[[nodiscard]] const std::vector<LeftOut>& calls_left_out();

/// nullptr where neither table has the call, or where it is left out.
[[nodiscard]] const CallErrors* errors_of(std::string_view call);
[[nodiscard]] bool is_left_out(std::string_view call);

}  // namespace faults
