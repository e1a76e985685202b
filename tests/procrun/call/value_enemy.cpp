// value_enemy MODE [WORD...]: a program that is started with values and breaks the rules, or nearly does. Exit status
// 0: all went as MODE wants it; 1: something forbidden succeeded; 3: an exception, printed on standard error.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/procrun/call/document.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/program_values.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/value.hpp"
#include "vmcow/view.hpp"
#include "vmcow/wire/typed_values.hpp"
#include "vmcow/wire/values_variable.hpp"

namespace {

using tests::Document;
using vmcow::sys::UniqueFd;

constexpr std::uint64_t kHugeFileBytes = std::uint64_t{1} << 60;  // larger than the address space of any process

// The layout of a message: a header of two numbers, then for each value its type and a vmcow::SnapshotRecord.
constexpr std::ptrdiff_t kHeaderBytes = 2 * sizeof(std::uint64_t);
constexpr std::size_t kExtent = 3 * sizeof(std::uint64_t);
constexpr std::size_t kDeltaCount = 5 * sizeof(std::uint64_t);

/// The descriptor of the connection, before the library takes it over.
int raw_socket() {
    const auto found = vmcow::connection_of_values_variable(std::getenv(vmcow::kValuesVariable));
    if (!found) throw std::runtime_error("no connection");
    return found->socket;
}

vmcow::Snapshot page_of(std::byte content) {
    vmcow::Arena arena;
    arena.append(std::vector<std::byte>(vmcow::kPageBytes, content));
    return std::move(arena).freeze();
}

void give(std::byte content) { vmcow::result(page_of(content)); }

/// Sends `page_of(1)` as a result, after `forge` has changed the message.
void send_forged(const std::function<void(std::vector<std::byte>&, std::vector<UniqueFd>&)>& forge) {
    auto [sending, receiving] = vmcow::sys::open_message_sockets();
    const vmcow::TypedSnapshot value{page_of(std::byte{1})};
    vmcow::send_values(sending.get(), {&value, 1});
    vmcow::sys::Message message = *vmcow::sys::receive_message(receiving.get());
    forge(message.bytes, message.fds);
    std::vector<int> fds;
    for (const UniqueFd& fd : message.fds) fds.push_back(fd.get());
    vmcow::sys::send_message(raw_socket(), message.bytes, fds);
    // The process that reads the message ends this program.
    for (;;) ::pause();
}

UniqueFd sealed_file(std::uint64_t bytes) {
    UniqueFd fd = vmcow::sys::create_memfd("enemy");
    vmcow::sys::resize_memfd(fd.get(), bytes, "enemy");
    vmcow::sys::seal_memfd(fd.get(), "enemy");
    return fd;
}

void send_huge_file() {
    send_forged([](auto& bytes, auto& fds) {
        fds.at(0) = sealed_file(kHugeFileBytes);
        const std::uint64_t extent = kHugeFileBytes;
        std::memcpy(bytes.data() + kExtent, &extent, sizeof extent);
    });
}

void send_bytes(std::size_t count) {
    const std::vector<std::byte> bytes(count, std::byte{7});
    if (::send(raw_socket(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) throw std::runtime_error("send");
}

[[noreturn]] void wait_forever() {
    for (;;) ::pause();
}

void give_and_wait() {
    give(std::byte{1});
    wait_forever();
}

void give_and_die() {
    give(std::byte{1});
    static_cast<void>(::raise(SIGKILL));
}

void give_without_having_looked() {
    const vmcow::TypedSnapshot value{page_of(std::byte{1})};
    vmcow::send_values(raw_socket(), {&value, 1});
}

[[noreturn]] void flood() {
    for (;;) give(std::byte{1});
}

[[noreturn]] void spin() {
    for (volatile std::uint64_t turns = 0;;) turns = turns + 1;
}

[[noreturn]] void eat_memory() {
    constexpr std::size_t kPortion = std::size_t{1} << 20;
    for (std::vector<std::vector<char>> eaten;; ::usleep(1000)) eaten.emplace_back(kPortion, 'x');
}

/// Tries every way to write that the argument's descriptors might allow; exits with 0 when none of them does.
void write_to_argument() {
    const vmcow::Snapshot argument = vmcow::argument(0);
    const int fd = argument.base_fd();
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    const UniqueFd reopened(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    for (const int each : {fd, reopened.get()}) {
        if (each < 0) continue;
        if (::pwrite(each, "x", 1, 0) >= 0) std::exit(1);
        if (::ftruncate(each, 0) == 0) std::exit(1);
        if (::fallocate(each, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0) std::exit(1);
        if (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, each, 0) != MAP_FAILED) std::exit(1);
    }
    vmcow::View view = argument.map_private();
    std::memset(view.bytes().data(), 0xff, view.bytes().size());
}

/// Leaves a child that holds the connection and outlives this program, until the test closes the child's standard
/// input.
void leave_a_child() {
    static_cast<void>(raw_socket());
    if (::fork() != 0) return;
    std::array<char, 1> byte{};
    ::_exit(::read(STDIN_FILENO, byte.data(), byte.size()) == 0 ? 0 : 1);
}

/// After the first use of the library, a program started from here must inherit neither the variable nor the
/// descriptor.
void expect_hidden() {
    const int socket = raw_socket();
    static_cast<void>(vmcow::argument_count());
    if (std::getenv(vmcow::kValuesVariable) != nullptr) std::exit(1);
    if ((::fcntl(socket, F_GETFD) & FD_CLOEXEC) == 0) std::exit(1);
}

void look_without_room() {
    rlimit before{};
    if (::getrlimit(RLIMIT_NOFILE, &before) != 0) throw std::runtime_error("getrlimit");
    const rlimit none{STDERR_FILENO + 1, before.rlim_max};  // every number below this limit is in use
    if (::setrlimit(RLIMIT_NOFILE, &none) != 0) throw std::runtime_error("setrlimit");
    static_cast<void>(vmcow::started_with_values());
    static_cast<void>(::setrlimit(RLIMIT_NOFILE, &before));
    static_cast<void>(vmcow::argument_count());  // the failed look has not changed the count
}

void print_types() {
    std::printf("%zu arguments:", vmcow::argument_count());
    for (std::size_t i = 0; i < vmcow::argument_count(); ++i) {
        std::printf(" %llu", static_cast<unsigned long long>(vmcow::argument_type(i)));
    }
    std::printf("\n");
}

void give_arguments_back() {
    for (std::size_t i = 0; i < vmcow::argument_count(); ++i) vmcow::result(vmcow::argument(i), 1000 + i);
}

void append_word() {
    auto document = vmcow::argument<Document>(0);
    document.edit([](Document& it) { it.words.push_back(4711); });
    vmcow::result(document);
}

void append_numbers() {
    auto numbers = vmcow::argument<double[]>(0);
    numbers.append(std::vector<double>(10'000, 7.0));
    vmcow::result(numbers);
}

// Modes for pipelines.

/// Passes each argument on as soon as it arrives.
void echo() {
    for (std::size_t n = 0;; ++n) {
        std::optional<vmcow::Snapshot> next;
        try {
            next = vmcow::argument(n);
        } catch (const std::system_error& error) {
            if (error.code().value() != EINVAL) throw;
            return;
        }
        vmcow::result(*next, vmcow::argument_type(n));
    }
}

void copy_input() {
    std::vector<std::byte> buffer(std::size_t{64} << 10);
    while (const std::size_t got = vmcow::sys::read_full(STDIN_FILENO, buffer, "standard input")) {
        vmcow::sys::write_all(STDOUT_FILENO, std::span(buffer).first(got), "standard output");
    }
}

/// Writes more than any pipe holds.
void write_much() {
    const std::vector<std::byte> much(3'000'000, std::byte{'x'});
    vmcow::sys::write_all(STDOUT_FILENO, much, "standard output");
}

void take_then_copy() {
    const auto argument = vmcow::argument(0);
    copy_input();
    vmcow::result(argument, vmcow::argument_type(0));
}

void copy_then_take() {
    copy_input();
    vmcow::result(vmcow::argument(0), vmcow::argument_type(0));
}

void write_then_give() {
    write_much();
    vmcow::result(vmcow::argument(0), vmcow::argument_type(0));
}

void give_then_write() {
    vmcow::result(vmcow::argument(0), vmcow::argument_type(0));
    write_much();
}

/// Gives one result and closes the connection, long before this program ends.
void give_then_hang_up() {
    UniqueFd connection(raw_socket());
    const auto argument = vmcow::argument(0);
    vmcow::result(argument, vmcow::argument_type(0));
    connection.reset();
    copy_input();
}

/// Sends a thousand requests and reads no answer.
void ask_and_wait() {
    for (int i = 0; i < 1000; ++i) vmcow::send_value_request(raw_socket());
    wait_forever();
}

const std::map<std::string, std::function<void()>> kModes{
    {"nothing", [] {}},
    {"look", [] { static_cast<void>(vmcow::argument_count()); }},
    {"look-at-first", [] { static_cast<void>(vmcow::argument(0)); }},
    {"forever", [] { wait_forever(); }},
    {"spin", [] { spin(); }},
    {"eat", [] { eat_memory(); }},
    {"one", [] { give(std::byte{1}); }},
    {"append-word", append_word},
    {"append-numbers", append_numbers},
    {"two", [] { give(std::byte{1}), give(std::byte{2}); }},
    {"give-and-wait", give_and_wait},
    {"give-and-die", give_and_die},
    {"give-and-fail", [] { give(std::byte{1}), std::exit(5); }},
    {"give-without-look", give_without_having_looked},
    {"give-arguments", give_arguments_back},
    {"echo", echo},
    {"take-then-copy", take_then_copy},
    {"copy-then-take", copy_then_take},
    {"write-then-give", write_then_give},
    {"give-then-write", give_then_write},
    {"give-then-hang-up", give_then_hang_up},
    {"ask-and-wait", ask_and_wait},
    {"flood", [] { flood(); }},
    {"close", [] { UniqueFd(raw_socket()).reset(); }},
    {"close-and-wait", [] { UniqueFd(raw_socket()).reset(), wait_forever(); }},
    {"leave-a-child", leave_a_child},
    {"write", write_to_argument},
    {"hidden", expect_hidden},
    {"without-room", look_without_room},
    {"types", print_types},
    {"no-bytes", [] { send_bytes(0), wait_forever(); }},
    {"few-bytes", [] { send_bytes(5), wait_forever(); }},
    {"many-bytes", [] { send_bytes(vmcow::sys::kMaxMessageBytes + 1), wait_forever(); }},
    {"huge-file", send_huge_file},
    {"two-in-one",
     [] {
         send_forged([](auto& bytes, auto& fds) {
             bytes.insert(bytes.end(), bytes.begin() + kHeaderBytes, bytes.end());
             bytes.at(sizeof(std::uint64_t)) = std::byte{2};
             fds.push_back(vmcow::sys::duplicate(fds.at(0).get()));
         });
     }},
    {"none-in-one",
     [] {
         send_forged([](auto& bytes, auto& fds) {
             bytes.resize(kHeaderBytes);
             bytes.at(sizeof(std::uint64_t)) = std::byte{0};
             fds.clear();
         });
     }},
    {"wrong-count", [] { send_forged([](auto& bytes, auto&) { bytes.at(sizeof(std::uint64_t)) = std::byte{9}; }); }},
    {"wrong-magic", [] { send_forged([](auto& bytes, auto&) { bytes.at(0) ^= std::byte{1}; }); }},
    {"many-deltas", [] { send_forged([](auto& bytes, auto&) { bytes.at(kDeltaCount) = std::byte{5}; }); }},
    {"cut-short", [] { send_forged([](auto& bytes, auto&) { bytes.pop_back(); }); }},
    {"no-file", [] { send_forged([](auto&, auto& fds) { fds.clear(); }); }},
    {"more-files",
     [] {
         send_forged([](auto&, auto& fds) {
             while (fds.size() < vmcow::sys::kMaxMessageFds) fds.push_back(vmcow::sys::duplicate(0));
         });
     }},
    {"no-image", [] { send_forged([](auto&, auto& fds) { fds.at(0) = vmcow::sys::open_file("/dev/null", O_RDWR); }); }},
    {"unsealed",
     [] {
         send_forged([](auto&, auto& fds) {
             fds.at(0) = vmcow::sys::create_memfd("enemy");
             vmcow::sys::resize_memfd(fds.at(0).get(), vmcow::kPageBytes, "enemy");
         });
     }},
};

/// Modes "exec WORD…" and "look-and-exec WORD…".
int execute(char** words, bool look_first) {
    if (look_first) static_cast<void>(vmcow::argument_count());
    ::execvp(words[0], words);
    std::perror(words[0]);
    return 127;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    const std::string mode = argv[1];
    try {
        if (argc > 2 && mode == "exec") return execute(argv + 2, false);
        if (argc > 2 && mode == "look-and-exec") return execute(argv + 2, true);
        kModes.at(mode)();
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s\n", error.what()));
        return 3;
    }
    return 0;
}
