#pragma once

#include <optional>
#include <string>

namespace vmcow {

/// The environment variable by which a program finds the values that it was started with: the number of a socket that
/// the program has inherited and, because numbers are used again, the socket's inode, as in "5:48213". A message with
/// the arguments waits in the socket; results are sent back on it. In a pipeline the arguments come from a stage that
/// still runs: "5:48213:ask" says that each request is answered with the next argument, or with the end of them.
inline constexpr const char* kValuesVariable = "VMCOW_VALUES";

/// What the variable says.
struct ValuesConnection {
    int socket = -1;
    bool asks = false;  ///< each argument has to be asked for
};

/// The variable's content for a socket. Throws: std::system_error -- EBADF.
[[nodiscard]] std::string values_variable(int socket, bool asks = false);
/// The connection that the variable's content names; nullopt when this process does not have it: the content is not of
/// this form, or the process that started this one has not passed the socket on.
[[nodiscard]] std::optional<ValuesConnection> connection_of_values_variable(const char* content);

}  // namespace vmcow
