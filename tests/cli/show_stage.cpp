// show WORD…: a stage that describes itself. It appends one line to the file that SHOW_LOG names, with its words, where
// its descriptors lead and what it reads; then it writes its words as a line to standard output and to standard error.
// The last word "exit7" sets its exit status.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

/// Escapes a text to one line, so that no two texts look alike.
std::string escaped(std::string_view text) {
    std::string shown = "<";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > 0x20 && byte < 0x7F && c != '<' && c != '>' && c != '\\') {
            shown += c;
        } else {
            std::array<char, 8> code{};
            static_cast<void>(std::snprintf(code.data(), code.size(), "\\%02x", byte));
            shown += code.data();
        }
    }
    return shown + ">";
}

/// "pipe", or the file's name without its folder, and how the descriptor was opened.
std::string place_of(int fd) {
    std::array<char, 4096> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    if (readlink(link.c_str(), target.data(), target.size() - 1) < 0) return "nowhere";
    std::string_view name = target.data();
    name = name.starts_with("pipe:") ? "pipe" : name.substr(name.rfind('/') + 1);
    const int flags = fcntl(fd, F_GETFL);
    return escaped(name) + ((flags & O_APPEND) != 0 ? "+" : "") +
           ((flags & O_ACCMODE) == O_RDONLY   ? "r"
            : (flags & O_ACCMODE) == O_WRONLY ? "w"
                                              : "rw");
}

bool lead_to_the_same(int one, int other) {
    struct stat a {};
    struct stat b {};
    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

std::string all_of_input() {
    std::string text;
    std::array<char, 4096> bytes{};
    for (ssize_t got = 0; (got = read(STDIN_FILENO, bytes.data(), bytes.size())) > 0;) {
        text.append(bytes.data(), static_cast<std::size_t>(got));
    }
    return text;
}

/// Writes the line in one call, so that stages that write to one file do not split lines. The reader may be gone.
void write_line(int fd, const std::string& line) {
    const ssize_t written = write(fd, line.data(), line.size());
    static_cast<void>(written);
}

}  // namespace

int main(int argc, char** argv) {
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    std::string words;
    for (int i = 0; i < argc; ++i) words += escaped(argv[i]);
    const std::string read = all_of_input();
    const char* const log = std::getenv("SHOW_LOG");
    const int fd = log != nullptr ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0) return 125;
    write_line(fd, "words " + words + " in " + place_of(0) + " out " + place_of(1) + " err " + place_of(2) +
                       (lead_to_the_same(1, 2) ? " same" : "") + " read " + escaped(read) + "\n");
    write_line(STDOUT_FILENO, "out of " + words + "\n");
    write_line(STDERR_FILENO, "err of " + words + "\n");
    return argc > 1 && std::string_view(argv[argc - 1]) == "exit7" ? 7 : 0;
}
