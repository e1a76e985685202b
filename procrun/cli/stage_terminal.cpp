#include "procrun/cli/stage_terminal.hpp"

#include <unistd.h>

#include <array>
#include <cstddef>
#include <vector>

#include "vmcow/sys/terminal.hpp"

namespace procrun::cli {

namespace {

using vmcow::sys::terminal_device;

bool leads_to_same_terminal(int fd, int other) {
    const auto device = terminal_device(fd);
    return device && device == terminal_device(other);
}

/// For each stage, whether another stage reads what it writes.
std::vector<bool> have_readers(const PipelineText& text) {
    std::vector<bool> read(text.stages.size(), false);
    for (std::size_t i = 0; i < text.stages.size(); ++i) {
        if (const auto& from = text.stages[i].from) {
            for (const std::size_t source : from->stages) read.at(source) = true;
        } else if (i > 0) {
            read[i - 1] = true;
        }
    }
    return read;
}

bool file_may_lead_to(const std::string& path, int fd) {
    const auto device = terminal_device(fd);
    return device && vmcow::sys::may_lead_to_terminal(path, *device);
}

}  // namespace

bool may_print_on_terminal(const std::string& path, int fd) {
    if (path == "-") return leads_to_same_terminal(STDOUT_FILENO, fd);
    return file_may_lead_to(path, fd);
}

bool stages_print_on_terminal(const PipelineText& text, int fd) {
    const std::array<bool, 3> ours{leads_to_same_terminal(STDIN_FILENO, fd), leads_to_same_terminal(STDOUT_FILENO, fd),
                                   leads_to_same_terminal(STDERR_FILENO, fd)};
    const std::vector<bool> read = have_readers(text);
    for (std::size_t i = 0; i < text.stages.size(); ++i) {
        std::array<bool, 3> leads = ours;
        if (read[i]) leads[STDOUT_FILENO] = false;
        for (const Redirection& redirection : text.stages[i].redirections) {
            bool& changed = leads.at(static_cast<std::size_t>(redirection.descriptor));
            changed = redirection.kind == Redirection::Kind::duplicate
                          ? leads.at(static_cast<std::size_t>(redirection.source))
                          : file_may_lead_to(redirection.file, fd);
        }
        if (leads[STDOUT_FILENO] || leads[STDERR_FILENO]) return true;
    }
    return false;
}

}  // namespace procrun::cli
