#include "procrun/cli/retries.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::ExitCode;
using vmcow::cli::Failure;

mode_t mode_of(int fd) {
    struct stat status {};
    return fstat(fd, &status) == 0 ? status.st_mode : 0;
}

bool reads_standard_input(const PipelineText& text) {
    return std::any_of(text.stages.begin(), text.stages.end(), [&](const StageText& stage) {
        const bool is_first = &stage == &text.stages.front() || (stage.from && stage.from->stages.empty());
        return is_first && std::none_of(stage.redirections.begin(), stage.redirections.end(),
                                        [](const auto& each) { return each.descriptor == STDIN_FILENO; });
    });
}

/// The offset at which the next byte is written.
off_t end_of(int fd) {
    const bool appends = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
    return lseek(fd, 0, appends ? SEEK_END : SEEK_CUR);
}

}  // namespace

Retries::Retries(const PipelineText& text) {
    const mode_t input = mode_of(STDIN_FILENO);
    if (reads_standard_input(text)) {
        if (S_ISFIFO(input) || S_ISSOCK(input)) {
            throw Failure("--retry: standard input is a pipe, which can be read only once; use a file",
                          ExitCode::usage);
        }
        if (S_ISREG(input)) input_ = lseek(STDIN_FILENO, 0, SEEK_CUR);
    }
    if (S_ISREG(mode_of(STDOUT_FILENO))) output_ = end_of(STDOUT_FILENO);
}

void Retries::put_back() const {
    if (input_ && lseek(STDIN_FILENO, *input_, SEEK_SET) == -1) vmcow::sys::throw_errno("standard input");
    if (!output_) return;
    if (ftruncate(STDOUT_FILENO, *output_) != 0 || lseek(STDOUT_FILENO, *output_, SEEK_SET) == -1) {
        vmcow::sys::throw_errno("standard output");
    }
}

}  // namespace procrun::cli
