// fault_stage emit N | copy | count | first | sort: the ordinary programs of the scenarios. It is static, so that no
// fault hits a call of the dynamic loader, and it reports a failure in one line. Started under the names seq, head and
// sort, it does as much of these programs as the README's pipeline needs.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

int failed(const char* what) {
    const std::string line = std::string("fault_stage: ") + what + ": " + std::strerror(errno) + "\n";
    static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
    return 1;
}

ssize_t read_some(char* into, std::size_t room) {
    ssize_t got = 0;
    do {
        got = read(STDIN_FILENO, into, room);
    } while (got < 0 && errno == EINTR);
    return got;
}

bool write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

int emit(long lines) {
    std::string text;
    for (long i = 1; i <= lines; ++i) text += std::to_string(i) + "\n";
    return write_all(text) ? 0 : failed("write");
}

int copy() {
    std::array<char, 4096> buffer;
    ssize_t got = 0;
    while ((got = read_some(buffer.data(), buffer.size())) > 0) {
        if (!write_all({buffer.data(), static_cast<std::size_t>(got)})) return failed("write");
    }
    return got == 0 ? 0 : failed("read");
}

int count() {
    std::array<char, 4096> buffer;
    long bytes = 0;
    ssize_t got = 0;
    while ((got = read_some(buffer.data(), buffer.size())) > 0) bytes += got;
    if (got < 0) return failed("read");
    return write_all(std::to_string(bytes) + "\n") ? 0 : failed("write");
}

/// The whole of standard input; nullopt where it cannot be read.
std::optional<std::string> read_all() {
    std::string text;
    std::array<char, 4096> buffer;
    ssize_t got = 0;
    while ((got = read_some(buffer.data(), buffer.size())) > 0)
        text.append(buffer.data(), static_cast<std::size_t>(got));
    return got == 0 ? std::optional(text) : std::nullopt;
}

int first() {
    const auto text = read_all();
    if (!text) return failed("read");
    return write_all(text->substr(0, text->find('\n') + 1)) ? 0 : failed("write");
}

/// Sorts with the largest number first.
int sort() {
    const auto text = read_all();
    if (!text) return failed("read");
    std::vector<std::string> lines;
    std::istringstream all(*text);
    for (std::string line; std::getline(all, line);) lines.push_back(line + "\n");
    const auto number = [](const std::string& line) { return std::strtol(line.c_str(), nullptr, 10); };
    std::sort(lines.begin(), lines.end(), [&](const auto& a, const auto& b) { return number(a) > number(b); });
    std::string sorted;
    for (const std::string& line : lines) sorted += line;
    return write_all(sorted) ? 0 : failed("write");
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view path = argv[0];
    const std::string_view name = path.substr(path.rfind('/') + 1);
    if (name == "seq" && argc == 3) return emit(std::atol(argv[2]));
    if (name == "sort") return sort();
    if (name == "head") return first();
    const std::string_view use = argc > 1 ? argv[1] : "";
    if (use == "emit" && argc == 3) return emit(std::atol(argv[2]));
    if (use == "sort") return sort();
    if (use == "first") return first();
    if (use == "copy") return copy();
    if (use == "count") return count();
    static_cast<void>(std::fprintf(stderr, "usage: fault_stage emit N | copy | count | first | sort\n"));
    return 2;
}
