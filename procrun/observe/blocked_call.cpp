#include "procrun/observe/blocked_call.hpp"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace procrun {

namespace {

using Kind = BlockedCall::Kind;

/// A system call and which of its arguments are the descriptors; -1 for none.
struct CallShape {
    long number;
    Kind kind;
    int in = -1;
    int out = -1;
};

constexpr auto kShapes = std::to_array<CallShape>({
    {SYS_read, Kind::reads, 0, -1},
    {SYS_readv, Kind::reads, 0, -1},
    {SYS_pread64, Kind::reads, 0, -1},
    {SYS_preadv, Kind::reads, 0, -1},
    {SYS_preadv2, Kind::reads, 0, -1},
    {SYS_recvfrom, Kind::reads, 0, -1},
    {SYS_recvmsg, Kind::reads, 0, -1},
    {SYS_write, Kind::writes, -1, 0},
    {SYS_writev, Kind::writes, -1, 0},
    {SYS_pwrite64, Kind::writes, -1, 0},
    {SYS_pwritev, Kind::writes, -1, 0},
    {SYS_pwritev2, Kind::writes, -1, 0},
    {SYS_vmsplice, Kind::writes, -1, 0},
    {SYS_sendto, Kind::writes, -1, 0},
    {SYS_sendmsg, Kind::writes, -1, 0},
    {SYS_fsync, Kind::writes, -1, 0},
    {SYS_fdatasync, Kind::writes, -1, 0},
    {SYS_splice, Kind::moves, 0, 2},
    {SYS_tee, Kind::moves, 0, 1},
    {SYS_sendfile, Kind::moves, 1, 0},
    {SYS_copy_file_range, Kind::moves, 0, 2},
    {SYS_ppoll, Kind::polls},
    {SYS_pselect6, Kind::polls},
    {SYS_epoll_pwait, Kind::polls},
    {SYS_epoll_pwait2, Kind::polls},
    {SYS_io_uring_enter, Kind::polls},
    {SYS_io_getevents, Kind::polls},
#ifdef SYS_poll  // the newer architectures have only the p-forms
    {SYS_poll, Kind::polls},
    {SYS_select, Kind::polls},
    {SYS_epoll_wait, Kind::polls},
#endif
    {SYS_restart_syscall, Kind::unclear},
});

/// Takes the next number off the line, decimal or with 0x.
std::optional<std::int64_t> take_number(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const bool hexadecimal = line.starts_with("0x");
    if (hexadecimal) line.remove_prefix(2);
    const char* const end = line.data() + line.size();
    if (hexadecimal) {
        std::uint64_t value = 0;
        const auto [rest, error] = std::from_chars(line.data(), end, value, 16);
        if (error != std::errc()) return std::nullopt;
        line.remove_prefix(static_cast<std::size_t>(rest - line.data()));
        return static_cast<std::int64_t>(value);
    }
    std::int64_t value = 0;
    const auto [rest, error] = std::from_chars(line.data(), end, value);
    if (error != std::errc()) return std::nullopt;
    line.remove_prefix(static_cast<std::size_t>(rest - line.data()));
    return value;
}

using Arguments = std::array<std::int64_t, 6>;

/// The descriptor in an argument. The kernel takes it from the lower half of the register.
int descriptor_at(const Arguments& arguments, int position) {
    if (position < 0) return -1;
    return static_cast<int>(static_cast<std::uint32_t>(arguments.at(static_cast<std::size_t>(position))));
}

/// A stack in the lowest 4 GiB is that of a 32-bit program, whose calls have other numbers.
bool is_32_bit_stack(std::int64_t pointer) {
    return sizeof(void*) > 4 && pointer >= 0 && pointer <= std::numeric_limits<std::uint32_t>::max();
}

}  // namespace

std::optional<BlockedCall> parse_blocked_call(std::string_view line) {
    if (line.starts_with("running")) return BlockedCall{.kind = Kind::none};
    const auto number = take_number(line);
    if (!number) return std::nullopt;
    Arguments arguments{};
    if (*number >= 0) {
        for (auto& argument : arguments) {
            const auto value = take_number(line);
            if (!value) return std::nullopt;
            argument = *value;
        }
    }
    const auto stack = take_number(line);
    if (!stack) return std::nullopt;
    if (*number < 0) return BlockedCall{.kind = *stack == 0 ? Kind::ended : Kind::waits};
    if (is_32_bit_stack(*stack)) return BlockedCall{.kind = Kind::unclear};

    const auto* const shape =
        std::find_if(kShapes.begin(), kShapes.end(), [&](const CallShape& known) { return known.number == *number; });
    if (shape == kShapes.end()) return BlockedCall{.kind = Kind::waits};
    return BlockedCall{
        .kind = shape->kind, .in = descriptor_at(arguments, shape->in), .out = descriptor_at(arguments, shape->out)};
}

BlockedCall::Kind kind_of_kernel_function(std::string_view name) {
    if (name.find("pipe_read") != std::string_view::npos) return Kind::reads;
    if (name.find("pipe_write") != std::string_view::npos) return Kind::writes;
    return Kind::unclear;
}

}  // namespace procrun
