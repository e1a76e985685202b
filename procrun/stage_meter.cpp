#include "procrun/stage_meter.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "procrun/process.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

std::optional<std::string> text_of(const std::string& path) {
    try {
        return vmcow::sys::read_text_file(path);
    } catch (const std::system_error&) {
        return std::nullopt;
    }
}

/// The number in the line "NAME:  NUMBER …".
std::optional<std::uint64_t> field(std::string_view text, std::string_view name) {
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(line.size() < text.size() ? line.size() + 1 : text.size());
        if (!line.starts_with(name) || line.substr(name.size()).substr(0, 1) != ":") continue;
        const std::size_t digits = line.find_first_of("0123456789", name.size());
        if (digits == std::string_view::npos) return std::nullopt;
        std::uint64_t value = 0;
        const auto [end, error] = std::from_chars(line.data() + digits, line.data() + line.size(), value);
        return error == std::errc() ? std::optional(value) : std::nullopt;
    }
    return std::nullopt;
}

UniqueFd open_counters(const std::string& path) { return UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

struct Counters {
    TransferredBytes transferred;
    std::size_t text_bytes = 0;
};

/// By one read(2), whose cost in the reader's own counters is known.
std::optional<Counters> read_counters(const UniqueFd& fd) {
    if (!fd) return std::nullopt;
    std::array<char, 1024> text{};
    const ssize_t got = vmcow::sys::retry_interrupted([&] { return pread(fd.get(), text.data(), text.size(), 0); });
    if (got <= 0) return std::nullopt;
    const std::string_view counters{text.data(), static_cast<std::size_t>(got)};
    const auto read = field(counters, "rchar");
    const auto written = field(counters, "wchar");
    if (!read || !written) return std::nullopt;
    return Counters{.transferred = {.read = *read, .written = *written}, .text_bytes = counters.size()};
}

}  // namespace

TransferMeter::TransferMeter(pid_t pid) : fd_(open_counters(fmt::format("/proc/{}/io", pid))) {}

std::optional<TransferredBytes> TransferMeter::read() const {
    const auto counters = read_counters(fd_);
    return counters ? std::optional(counters->transferred) : std::nullopt;
}

ReapMeter::ReapMeter() {
    const auto counters = read_counters(open_counters("/proc/self/io"));
    if (!counters) return;
    before_ = counters->transferred;
    before_->read += counters->text_bytes;  // reading them is itself counted, afterwards
}

std::optional<TransferredBytes> ReapMeter::read() const {
    const auto after = read_counters(open_counters("/proc/self/io"));
    if (!before_ || !after) return std::nullopt;
    return TransferredBytes{.read = after->transferred.read - before_->read,
                            .written = after->transferred.written - before_->written};
}

bool has_one_thread() {
    const auto text = text_of("/proc/self/status");
    return text && field(*text, "Threads") == 1U;
}

}  // namespace procrun
