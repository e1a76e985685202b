#pragma once

#include <span>

#include "procrun/program.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

/// Both ends of the connection by which a program gets its arguments and gives its results.
struct ProgramArguments {
    vmcow::sys::UniqueFd caller_end;   ///< results arrive here; once it is closed, giving a result fails with EPIPE
    vmcow::sys::UniqueFd program_end;  ///< to be kept open until the program has been started
};

/// Lets a program inherit `program_end` as its connection for values. The program finds its arguments there or, with
/// `asks`, has to ask for them. The caller keeps the returned descriptor open until the program has been started.
/// Throws: std::system_error -- EMFILE, EBADF.
[[nodiscard]] vmcow::sys::UniqueFd connect_values(Program& program, int program_end, bool asks);

/// Gives a program values as its arguments (vmcow/program_values.hpp), in a socket that the program inherits. `sent`,
/// if not null, remembers the files that were sent.
/// Throws: std::system_error -- EMFILE, ENOMEM; E2BIG: the values do not fit into one message.
[[nodiscard]] ProgramArguments give_arguments(Program& program, std::span<const vmcow::TypedSnapshot> values,
                                              vmcow::SentFiles* sent = nullptr);

}  // namespace procrun
