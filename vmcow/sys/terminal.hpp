#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace vmcow::sys {

/// What a descriptor of a terminal can be asked. None of these functions changes anything.
/// Source: ioctl_tty(2), termios(3), tcgetpgrp(3).

/// The device number of the terminal that `fd` leads to, also by way of /dev/tty; nullopt when it leads to none.
[[nodiscard]] std::optional<dev_t> terminal_device(int fd) noexcept;

/// Whether what is written to the file at `path` may appear on the terminal `device`. True for /dev/tty and
/// /dev/console too: only a process that opens them knows which terminals these are.
[[nodiscard]] bool may_lead_to_terminal(const std::string& path, dev_t device) noexcept;

/// The files by which programs open the terminal that `fd` leads to: the terminal's own file, and /dev/tty, which
/// stands for every terminal. Empty when the own file cannot be named.
[[nodiscard]] std::vector<std::string> terminal_files(int fd);

struct TerminalSize {
    std::size_t rows;
    std::size_t columns;
};

/// The size of a terminal; 24 rows of 80 columns when the terminal does not know it.
[[nodiscard]] TerminalSize terminal_size(int fd) noexcept;

/// Whether the terminal takes typed lines and shows them as they are typed. False while a program has the whole screen
/// for itself, or asks for a password.
[[nodiscard]] bool echoes_lines(int fd) noexcept;

/// Whether this process or a child of it has the terminal, and not another job of the same shell. True when the
/// terminal is not our session's: nobody sends us to the background of that terminal.
[[nodiscard]] bool is_in_foreground(int fd) noexcept;

/// Whether write(2) would go on at once. False after Ctrl-S.
[[nodiscard]] bool takes_output(int fd) noexcept;

}  // namespace vmcow::sys
