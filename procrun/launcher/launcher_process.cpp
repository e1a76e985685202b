#include "procrun/launcher/launcher_process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>
#include <span>
#include <system_error>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "procrun/launcher/launcher_executable.hpp"
#include "procrun/process/poll_until.hpp"
#include "procrun/program/program_start.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/sys/process/signals.hpp"

// Glibc's clone(2) under its other name. The thread sanitizer takes `clone` for a fork and changes its own state to
// that of a child. Here the child shares that state with this process.
// NOLINTNEXTLINE(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace procrun::detail {

using vmcow::sys::kMaxMessageFds;
using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

namespace {

constexpr std::size_t kChildStackBytes = std::size_t{64} << 10;
constexpr const char* kEndedMeanwhile = "the launcher ended while it started a program";
constexpr unsigned kMemfdExec = 0x10;  // MFD_EXEC, Linux 6.3

// Whether an errno means that no launcher can run here: the kernel does not execute memfds, a seccomp filter refuses
// one of the calls, or the limit of file sizes (RLIMIT_FSIZE) is smaller than the launcher.
bool is_refusal(int error) {
    return error == EACCES || error == EPERM || error == ENOSYS || error == EINVAL || error == ENOEXEC ||
           error == EFBIG;
}

// MFD_EXEC makes the memfd executable even if vm.memfd_noexec is 1. Older kernels do not know the flag (EINVAL), and
// there every memfd is executable.
UniqueFd create_executable() {
    constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    UniqueFd file(memfd_create("vmcow-launcher", kFlags | kMemfdExec));
    if (!file && errno == EINVAL) file = UniqueFd(memfd_create("vmcow-launcher", kFlags));
    if (!file) throw_errno("memfd_create for the launcher");
    vmcow::sys::write_all(file.get(), launcher_executable(), "the launcher");
    vmcow::sys::seal_memfd(file.get(), "the launcher");
    return file;
}

// Duplicates a descriptor above the numbers at which the launcher expects its own.
UniqueFd duplicate_above(int fd) {
    UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, kCallerPidfd + 1));
    if (!copy) throw_error(errno == EINVAL ? EMFILE : errno, "duplicate a descriptor for the launcher");
    return copy;
}

// The parameters of the child, in memory that it shares with the thread that waits for it.
struct Birth {
    int image = -1;
    int socket = -1;
    int caller = -1;
    int error = 0;
};

// The child's half, not instrumented: the sanitizers know neither its stack nor that it shares its parent's memory.
[[gnu::no_sanitize("address", "undefined", "thread")]] int become_launcher(void* argument) {
    auto* const birth = static_cast<Birth*>(argument);
    char name[] = "vmcow-launcher";
    char* argv[] = {name, nullptr};
    char* environment[] = {nullptr};
    if (syscall(SYS_dup3, birth->socket, kLauncherSocketFd, 0) >= 0 &&
        syscall(SYS_dup3, birth->caller, kCallerPidfd, 0) >= 0 &&
        syscall(SYS_close_range, kCallerPidfd + 1U, std::numeric_limits<unsigned>::max(), CLOSE_RANGE_CLOEXEC) == 0) {
        syscall(SYS_execveat, birth->image, "", argv, environment, AT_EMPTY_PATH);
    }
    birth->error = errno;
    return 1;
}

std::pair<pid_t, UniqueFd> clone_launcher(Birth& birth) {
    constexpr int kFlags = CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_PIDFD | SIGCHLD;
    const std::unique_ptr<std::byte[]> stack(new std::byte[kChildStackBytes]);
    const vmcow::sys::BlockedSignals blocked;  // the launcher keeps them blocked for good
    int pidfd = -1;
    const pid_t pid = __clone(become_launcher, stack.get() + kChildStackBytes, kFlags, &birth, &pidfd);
    if (pid < 0) throw_errno("clone for the launcher");
    return {pid, UniqueFd(pidfd)};
}

// Takes the pidfd from a reply. Opens one where the launcher could only send the pid: the process is not reaped yet.
UniqueFd pidfd_in(vmcow::sys::Message& message, pid_t pid) {
    if (!message.fds.empty()) return std::move(message.fds.front());
    return vmcow::sys::open_pidfd(pid, "pidfd_open of a started program");
}

bool is_ready(const pollfd& entry) { return entry.revents != 0; }

}  // namespace

CallerIdentity CallerIdentity::now() {
    CallerIdentity identity;
    identity.pid = getpid();
    identity.session = getsid(0);
    auto& [real_user, user, saved_user] = identity.users;
    auto& [real_group, group, saved_group] = identity.groups;
    if (getresuid(&real_user, &user, &saved_user) != 0) throw_errno("getresuid");
    if (getresgid(&real_group, &group, &saved_group) != 0) throw_errno("getresgid");
    const int count = getgroups(0, nullptr);
    if (count < 0) throw_errno("getgroups");
    identity.other_groups.resize(static_cast<std::size_t>(count));
    if (count > 0 && getgroups(count, identity.other_groups.data()) < 0) throw_errno("getgroups");
    identity.no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    return identity;
}

LauncherProcess::Limits LauncherProcess::limits_now() {
    Limits limits{};
    for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
        const auto which = static_cast<__rlimit_resource>(resource);
        if (getrlimit(which, &limits[static_cast<std::size_t>(resource)]) != 0) throw_errno("getrlimit");
    }
    return limits;
}

std::vector<ResourceLimit> LauncherProcess::changed_limits() const {
    std::vector<ResourceLimit> changed;
    const Limits now = limits_now();
    for (std::size_t i = 0; i < now.size(); ++i) {
        if (now[i].rlim_cur == limits_[i].rlim_cur && now[i].rlim_max == limits_[i].rlim_max) continue;
        changed.push_back({static_cast<int>(i), now[i]});
    }
    return changed;
}

std::variant<std::unique_ptr<LauncherProcess>, std::string> LauncherProcess::start() try {
    std::unique_ptr<LauncherProcess> launcher(new LauncherProcess);
    launcher->caller_ = CallerIdentity::now();
    launcher->limits_ = limits_now();
    launcher->of_main_thread_ = gettid() == launcher->caller_.pid;

    const UniqueFd image = duplicate_above(create_executable().get());
    auto [ours, its] = vmcow::sys::open_message_sockets();
    const UniqueFd its_socket = duplicate_above(its.get());
    its.reset();
    const UniqueFd caller = vmcow::sys::open_pidfd(launcher->caller_.pid, "pidfd_open for the launcher");
    const UniqueFd its_caller = duplicate_above(caller.get());

    Birth birth{.image = image.get(), .socket = its_socket.get(), .caller = its_caller.get(), .error = 0};
    std::tie(launcher->pid_, launcher->pidfd_) = clone_launcher(birth);
    launcher->socket_ = std::move(ours);
    if (birth.error != 0) throw_error(birth.error, "execveat of the launcher");
    if (auto problem = launcher->greeting_problem()) return *std::move(problem);
    return launcher;
} catch (const std::system_error& error) {
    if (!is_refusal(error.code().value())) throw;
    return error.what();
}

// A forked copy leaves the launcher alone: it belongs to the parent and is the parent's child.
LauncherProcess::~LauncherProcess() {
    if (!pidfd_ || !are_mine()) return;
    // The launcher is told to end and then killed: a caller that has given up its rights may not kill a launcher that
    // still has them.
    const LaunchRequest end;
    static_cast<void>(::send(socket_.get(), &end, sizeof end, MSG_NOSIGNAL | MSG_DONTWAIT));
    const Process ended(pid_, std::move(pidfd_));
}

void LauncherProcess::close_inherited() noexcept {
    socket_.reset();
    pidfd_.reset();
}

bool LauncherProcess::serves_this_process() const {
    return !broken_ && are_mine() && caller_ == CallerIdentity::now() && !vmcow::sys::has_ended(pidfd_.get());
}

// False when the launcher has ended. Its pidfd tells, and not end of file in the socket: a process that another thread
// forks keeps every end of every socket open.
bool LauncherProcess::wait_readable() const {
    std::array<pollfd, 2> entries{pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = pidfd_.get(), .events = POLLIN, .revents = 0}};
    poll_until(entries, Deadline::never(), "poll the launcher");
    return is_ready(entries[0]);
}

// Whether the launcher ends within a second. The kernel closes its descriptors first, so an error of the socket can
// come before the process has ended.
bool LauncherProcess::ends_soon() const noexcept {
    return vmcow::sys::wait_for_end(pidfd_.get(), std::chrono::seconds{1});
}

std::optional<std::string> LauncherProcess::greeting_problem() {
    LauncherGreeting greeting;
    ssize_t got = 0;
    if (wait_readable()) {
        got = retry_interrupted([&] { return recv(socket_.get(), &greeting, sizeof greeting, 0); });
    }
    if (got < 0) return fmt::format("receive from the launcher: {}", std::generic_category().message(errno));
    if (got != sizeof greeting) {
        Process launcher(pid_, std::move(pidfd_));
        launcher.signal(SIGKILL);  // it has ended, or will never send a greeting
        return "the launcher ended as soon as it was started: " + launcher.wait().outcome.describe();
    }
    if (greeting.pid == pid_) return std::nullopt;
    return "the launcher is in another pid namespace than this process";
}

// False when the launcher has ended without having read all of the request.
bool LauncherProcess::send(const LaunchMessage& message) try {
    std::span<const int> fds = message.fds;
    std::span<const std::byte> bytes = message.bytes;
    constexpr std::byte kMore{};
    do {
        const std::size_t count = std::min(fds.size(), kMaxMessageFds);
        vmcow::sys::send_message(socket_.get(), bytes, fds.first(count));
        broken_ = true;  // until the reply has been received
        fds = fds.subspan(count);
        bytes = {&kMore, 1};
    } while (!fds.empty());
    return true;
} catch (const std::system_error& error) {
    if (error.code().value() != EPIPE) throw;
    return false;
}

std::optional<LauncherProcess::Answer> LauncherProcess::receive() {
    LaunchReply reply;
    // Peeks at the reply first. If there is no room for the pidfd, only the pid is left, and this process must reap it.
    const ssize_t got = retry_interrupted([&] { return recv(socket_.get(), &reply, sizeof reply, MSG_PEEK); });
    const int error = got == -1 ? errno : 0;
    if (error == ECONNRESET && ends_soon()) return std::nullopt;  // it has ended and left the request unread
    if (error != 0) throw_error(error, "receive from the launcher");
    if (got != sizeof reply) throw_error(EPIPE, kEndedMeanwhile);
    broken_ = false;
    try {
        auto message = vmcow::sys::receive_message(socket_.get());
        if (reply.result == LaunchResult::refused) return Answer{reply, Process()};
        return Answer{reply, Process(reply.pid, pidfd_in(message.value(), reply.pid))};
    } catch (const std::system_error&) {
        if (reply.pid > 0) {
            vmcow::sys::signal_process(reply.pid, SIGKILL);
            retry_interrupted([&] { return waitpid(reply.pid, nullptr, 0); });
        }
        throw;
    }
}

std::optional<LauncherProcess::Answer> LauncherProcess::ask(const LaunchMessage& message) {
    UniqueFd room = vmcow::sys::duplicate(socket_.get());  // reserves a number for the pidfd before anything is started
    if (!send(message)) return std::nullopt;
    try {
        if (!wait_readable()) throw_error(EPIPE, kEndedMeanwhile);
        room.reset();
        return receive();
    } catch (...) {
        if (broken_) take_back();
        throw;
    }
}

// No answer has come, but the program may run. The launcher has the pidfd of the program: it kills the program and then
// exits. It gets a second for that, because the next start kills the launcher.
void LauncherProcess::take_back() noexcept {
    LaunchRequest end;
    end.take_back = true;
    static_cast<void>(::send(socket_.get(), &end, sizeof end, MSG_NOSIGNAL | MSG_DONTWAIT));
    static_cast<void>(ends_soon());
}

}  // namespace procrun::detail
