#include "procrun/call/program_arguments.hpp"

#include <utility>

#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/wire/values_variable.hpp"

namespace procrun {

vmcow::sys::UniqueFd connect_values(Program& program, int program_end, bool asks) {
    // The program gets it under the same number as here. So it replaces no other descriptor of ours, by which the
    // program may be named (/proc/self/fd/7).
    vmcow::sys::UniqueFd own = program.duplicate_beside_descriptors(program_end);
    program.descriptor(own.get(), own.get());
    program.variable(vmcow::kValuesVariable, vmcow::values_variable(own.get(), asks));
    return own;
}

ProgramArguments give_arguments(Program& program, std::span<const vmcow::TypedSnapshot> values,
                                vmcow::SentFiles* sent) {
    auto [ours, theirs] = vmcow::sys::open_message_sockets();
    vmcow::send_values(ours.get(), values, sent);
    return {.caller_end = std::move(ours), .program_end = connect_values(program, theirs.get(), false)};
}

}  // namespace procrun
