#include "vmcow/program_values.hpp"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/wire/typed_values.hpp"
#include "vmcow/wire/values_variable.hpp"

namespace vmcow {
namespace {

/// The connection to the process that started this program, from its first use to the end of the program.
class Caller {
public:
    static Caller& instance() {
        static auto* const caller = new Caller;  // never destroyed: handles to arguments may be static objects
        return *caller;
    }

    [[nodiscard]] bool is_there() const noexcept { return static_cast<bool>(socket_); }

    /// The number of arguments. In a pipeline it is known only when the stages that give them have ended.
    [[nodiscard]] std::size_t argument_count() {
        const std::scoped_lock lock(receiving_);
        while (may_get_more()) receive_next();
        return arguments_.size();
    }

    /// Argument `n`. The reference stays good.
    [[nodiscard]] const TypedSnapshot& argument(std::size_t n) {
        const std::scoped_lock lock(receiving_);
        while (n >= arguments_.size() && may_get_more()) receive_next();
        if (n < arguments_.size()) return arguments_[n];
        sys::throw_error(EINVAL, "argument " + std::to_string(n) + " of " + std::to_string(arguments_.size()));
    }

    void send(const TypedSnapshot& value) {
        if (!socket_) not_started_with_values();
        if (failure_) std::rethrow_exception(failure_);
        const std::scoped_lock lock(sending_);
        send_values(socket_.get(), {&value, 1});
    }

private:
    Caller() {
        const std::optional<ValuesConnection> found = connection_of_values_variable(std::getenv(kValuesVariable));
        ::unsetenv(kValuesVariable);  // fails only for a malformed name
        if (!found) return;
        socket_ = sys::UniqueFd(found->socket);
        asks_ = found->asks;
        try {
            if (::fcntl(found->socket, F_SETFD, FD_CLOEXEC) != 0) sys::throw_errno("hide the connection to the caller");
            if (!asks_) receive_arguments();
        } catch (const std::exception&) {
            failure_ = std::current_exception();
        }
    }

    /// Receives the one message that holds all arguments.
    void receive_arguments() {
        // The message was sent before this program started: if it is not there, it never comes.
        pollfd waiting{socket_.get(), POLLIN, 0};
        const int ready = sys::retry_interrupted([&] { return ::poll(&waiting, 1, 0); });
        std::optional<sys::Message> message;
        if (ready > 0 && (waiting.revents & POLLIN) != 0) message = sys::receive_message(socket_.get());
        if (!message) sys::throw_error(EBADMSG, "receive the arguments: somebody else has taken them");
        add(std::move(*message));
        complete_ = true;
    }

    [[nodiscard]] bool may_get_more() const {
        if (!socket_) not_started_with_values();
        if (failure_) std::rethrow_exception(failure_);
        return !complete_;
    }

    /// Asks for one argument and receives it, or the end of the arguments. The caller sends one answer for each
    /// question, so no answer is left over for the next program on this connection.
    void receive_next() {
        try {
            send_value_request(socket_.get());
            std::optional<sys::Message> message = sys::receive_message(socket_.get());
            complete_ = !message;
            if (message) add(std::move(*message));
        } catch (const std::system_error& error) {
            // The caller gives no more arguments: those that were received are all.
            if (error.code().value() == EPIPE || error.code().value() == ECONNRESET) {
                complete_ = true;
                return;
            }
            failure_ = std::current_exception();
            throw;
        }
    }

    void add(sys::Message message) {
        for (TypedSnapshot& value : unpack_values(std::move(message))) arguments_.push_back(std::move(value));
    }

    [[noreturn]] static void not_started_with_values() {
        sys::throw_error(ENOTCONN, "this program was not started with values");
    }

    sys::UniqueFd socket_;
    bool asks_ = false;
    bool complete_ = false;  // no more arguments come
    std::deque<TypedSnapshot> arguments_;
    std::exception_ptr failure_;
    std::mutex receiving_;
    std::mutex sending_;
};

}  // namespace

bool started_with_values() { return Caller::instance().is_there(); }

std::size_t argument_count() { return Caller::instance().argument_count(); }

Snapshot argument(std::size_t n) { return Caller::instance().argument(n).snapshot; }

std::uint64_t argument_type(std::size_t n) { return Caller::instance().argument(n).type; }

void result(const Snapshot& snapshot, std::uint64_t type) { Caller::instance().send({snapshot, type}); }

void detail::require_argument_type(std::size_t n, std::uint64_t wanted) {
    const TypedSnapshot& found = Caller::instance().argument(n);
    if (found.type == 0 || found.type == wanted) return;
    sys::throw_error(EBADMSG, "argument " + std::to_string(n) + " (" + std::to_string(found.snapshot.extent_bytes()) +
                                  " bytes) is of type " + std::to_string(found.type) + ", not of type " +
                                  std::to_string(wanted));
}

}  // namespace vmcow
