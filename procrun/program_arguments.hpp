#pragma once

#include <span>

#include "procrun/program.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/values_message.hpp"

namespace procrun {

/// Values that wait for a program which has not been started yet.
struct ProgramArguments {
    vmcow::sys::UniqueFd caller_end;   ///< what the program gives comes here; closed, giving fails with EPIPE
    vmcow::sys::UniqueFd program_end;  ///< to be kept until the program has been started
};

/// Gives a program values as its arguments (vmcow/program_values.hpp): they lie in a socket that it will inherit. What
/// is sent is also noted in `sent`, if that is not null.
/// Throws: std::system_error -- EMFILE, ENOMEM; E2BIG: more than one message can carry.
[[nodiscard]] ProgramArguments give_arguments(Program& program, std::span<const vmcow::TypedSnapshot> values,
                                              vmcow::SentFiles* sent = nullptr);

}  // namespace procrun
