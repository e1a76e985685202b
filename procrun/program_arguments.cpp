#include "procrun/program_arguments.hpp"

#include <utility>

#include "vmcow/sys/descriptor_socket.hpp"

namespace procrun {

ProgramArguments give_arguments(Program& program, std::span<const vmcow::TypedSnapshot> values,
                                vmcow::SentFiles* sent) {
    auto [ours, theirs] = vmcow::sys::open_message_sockets();
    vmcow::send_values(ours.get(), values, sent);
    // The number that it has here: no other descriptor of ours, by which the program may be named, is in its way there.
    vmcow::sys::UniqueFd own = program.duplicate_beside_descriptors(theirs.get());
    program.descriptor(own.get(), own.get());
    program.variable(vmcow::kValuesVariable, vmcow::values_variable(own.get()));
    return {.caller_end = std::move(ours), .program_end = std::move(own)};
}

}  // namespace procrun
