#include "vmcow/sys/terminal.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

namespace vmcow::sys {

namespace {

constexpr unsigned kAliasMajor = 5;    // 5:0 is /dev/tty, 5:1 is /dev/console
constexpr unsigned kConsoleMajor = 4;  // 4:0 is /dev/tty0, the console that is shown
constexpr unsigned kPseudoMajor = 136;
constexpr const char* kOwnTerminal = "/dev/tty";

}  // namespace

std::optional<dev_t> terminal_device(int fd) noexcept {
    unsigned number = 0;
    // st_rdev would not do: that of /dev/tty is the number of /dev/tty itself.
    if (ioctl(fd, TIOCGDEV, &number) != 0) return std::nullopt;
    return static_cast<dev_t>(number);
}

bool may_lead_to_terminal(const std::string& path, dev_t device) noexcept {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0 || !S_ISCHR(status.st_mode)) return false;
    const bool is_alias = major(status.st_rdev) == kAliasMajor && minor(status.st_rdev) <= 1;
    return is_alias || status.st_rdev == device || status.st_rdev == makedev(kConsoleMajor, 0);
}

std::vector<std::string> terminal_files(int fd) {
    const auto device = terminal_device(fd);
    struct stat status {};
    if (!device || fstat(fd, &status) != 0) return {};
    std::vector<std::string> files;
    if (status.st_rdev == *device) {
        files.push_back("/proc/self/fd/" + std::to_string(fd));
    } else if (major(*device) == kPseudoMajor) {
        files.push_back("/dev/pts/" + std::to_string(minor(*device)));
    } else {
        return {};
    }
    if (stat(kOwnTerminal, &status) == 0) files.emplace_back(kOwnTerminal);
    return files;
}

TerminalSize terminal_size(int fd) noexcept {
    winsize size{};
    const bool is_known = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    return is_known ? TerminalSize{size.ws_row, size.ws_col} : TerminalSize{24, 80};
}

bool echoes_lines(int fd) noexcept {
    termios mode{};
    return tcgetattr(fd, &mode) == 0 && (mode.c_lflag & ICANON) != 0 && (mode.c_lflag & ECHO) != 0;
}

bool is_in_foreground(int fd) noexcept {
    const pid_t group = tcgetpgrp(fd);
    // 0: a group in another pid namespace. It cannot be told whose group it is.
    if (group <= 0 || group == getpgrp()) return true;
    siginfo_t info{};
    return waitid(P_PGID, static_cast<id_t>(group), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool takes_output(int fd) noexcept {
    pollfd entry{.fd = fd, .events = POLLOUT, .revents = 0};
    return poll(&entry, 1, 0) > 0 && (entry.revents & POLLOUT) != 0;
}

}  // namespace vmcow::sys
