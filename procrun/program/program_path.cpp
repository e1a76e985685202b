#include "procrun/program/program_path.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

namespace procrun {

namespace {

constexpr const char* kDefaultPath = "/bin:/usr/bin";  // where execvp(3) looks when PATH is not set

/// 0, or the errno with which execve(2) would refuse the file.
int refusal_of(const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return errno;
    if (!S_ISREG(status.st_mode)) return EACCES;
    return faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

}  // namespace

std::vector<std::string> program_paths(const std::string& name) {
    if (name.empty() || name.find('/') != std::string::npos) return {name};
    const char* set = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): said in the header
    std::string_view rest{set != nullptr ? set : kDefaultPath};
    std::vector<std::string> paths;
    for (;;) {
        const std::size_t colon = rest.find(':');
        const std::string_view folder = rest.substr(0, colon);
        paths.push_back(folder.empty() ? name : fmt::format("{}/{}", folder, name));
        if (colon == std::string_view::npos) return paths;
        rest.remove_prefix(colon + 1);
    }
}

std::optional<Outcome> find_missing_program(const std::string& name) {
    const std::vector<std::string> paths = program_paths(name);
    int error = ENOENT;
    for (const std::string& path : paths) {
        const int refusal = refusal_of(path);
        if (refusal == 0) return std::nullopt;
        // A single path is reported with its errno. Of several paths, a forbidden file tells more than an absent one.
        if (paths.size() == 1 || refusal == EACCES) error = refusal;
    }
    return Outcome{.kind = OutcomeKind::not_started, .code = error, .text = fmt::format("execve '{}'", name)};
}

}  // namespace procrun
