#include "vmcow/program_values.hpp"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/values_message.hpp"

namespace vmcow {
namespace {

/// The connection to whoever started this program, from the first use to the end.
class Caller {
public:
    static Caller& instance() {
        static auto* const caller = new Caller;  // never destroyed: handles to arguments may be static objects
        return *caller;
    }

    [[nodiscard]] bool is_there() const noexcept { return static_cast<bool>(socket_); }

    [[nodiscard]] const std::vector<TypedSnapshot>& arguments() const {
        require();
        return arguments_;
    }

    void send(const TypedSnapshot& value) {
        require();
        const std::scoped_lock lock(sending_);
        send_values(socket_.get(), {&value, 1});
    }

private:
    Caller() {
        const std::optional<int> socket = socket_of_values_variable(std::getenv(kValuesVariable));
        ::unsetenv(kValuesVariable);  // with a name that is one, it does not fail
        if (!socket) return;
        socket_ = sys::UniqueFd(*socket);
        try {
            if (::fcntl(*socket, F_SETFD, FD_CLOEXEC) != 0) sys::throw_errno("hide the connection to the caller");
            receive_arguments();
        } catch (const std::exception&) {
            failure_ = std::current_exception();
        }
    }

    void receive_arguments() {
        // It was there before this program was: not to be waited for.
        pollfd waiting{socket_.get(), POLLIN, 0};
        const int ready = sys::retry_interrupted([&] { return ::poll(&waiting, 1, 0); });
        std::optional<sys::Message> message;
        if (ready > 0 && (waiting.revents & POLLIN) != 0) message = sys::receive_message(socket_.get());
        if (!message) sys::throw_error(EBADMSG, "receive the arguments: somebody else has taken them");
        arguments_ = unpack_values(std::move(*message));
    }

    void require() const {
        if (!socket_) sys::throw_error(ENOTCONN, "this program was not started with values");
        if (failure_) std::rethrow_exception(failure_);
    }

    sys::UniqueFd socket_;
    std::vector<TypedSnapshot> arguments_;
    std::exception_ptr failure_;
    std::mutex sending_;
};

const TypedSnapshot& argument_at(std::size_t n) {
    const std::vector<TypedSnapshot>& arguments = Caller::instance().arguments();
    if (n >= arguments.size()) {
        sys::throw_error(EINVAL, "argument " + std::to_string(n) + " of " + std::to_string(arguments.size()));
    }
    return arguments[n];
}

}  // namespace

bool started_with_values() { return Caller::instance().is_there(); }

std::size_t argument_count() { return Caller::instance().arguments().size(); }

Snapshot argument(std::size_t n) { return argument_at(n).snapshot; }

std::uint64_t argument_type(std::size_t n) { return argument_at(n).type; }

void result(const Snapshot& snapshot, std::uint64_t type) { Caller::instance().send({snapshot, type}); }

void detail::require_argument_type(std::size_t n, std::uint64_t wanted) {
    const TypedSnapshot& found = argument_at(n);
    if (found.type == 0 || found.type == wanted) return;
    sys::throw_error(EBADMSG, "argument " + std::to_string(n) + " (" + std::to_string(found.snapshot.extent_bytes()) +
                                  " bytes) is of type " + std::to_string(found.type) + ", not of type " +
                                  std::to_string(wanted));
}

}  // namespace vmcow
