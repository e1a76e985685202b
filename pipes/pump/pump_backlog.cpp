#include "pipes/pump/pump_backlog.hpp"

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "vmcow/sys/error.hpp"

namespace pipes {
namespace {

/// As much as may be held in memory is read back from the file at a time, within these bounds.
constexpr std::size_t kLeastReadBackBytes = 4096;
constexpr std::size_t kMostReadBackBytes = std::size_t{256} << 10;

}  // namespace

int Backlog::push(std::span<const std::byte> bytes) {
    if (!file_ || file_->bytes() == 0) {
        if (begin_ > memory_.size() / 2) {
            memory_.erase(memory_.begin(), memory_.begin() + static_cast<std::ptrdiff_t>(begin_));
            begin_ = 0;
        }
        const std::size_t held = std::min(in_memory(), options_->memory_bytes);
        const std::size_t count = std::min(bytes.size(), options_->memory_bytes - held);
        memory_.insert(memory_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
        most_in_memory_ = std::max<std::uint64_t>(most_in_memory_, in_memory());
        bytes = bytes.subspan(count);
    }
    if (!bytes.empty() && error_ == 0) error_ = push_to_file(bytes);
    return error_;
}

int Backlog::push_to_file(std::span<const std::byte> bytes) {
    if (!file_) {
        try {
            open_file();
        } catch (const std::system_error& error) {
            return error.code().value();
        }
        if (options_->notice) {
            const std::string& directory = options_->spill_directory;
            options_->notice({flow_, end_, directory.empty() ? default_spill_directory() : directory, in_memory()});
        }
    }
    if (bytes.size() > options_->spill_bytes - std::min(file_->bytes(), options_->spill_bytes)) return EDQUOT;
    spilled_ += bytes.size();
    return file_->push(bytes);
}

void Backlog::open_file() {
    file_.emplace(options_->spill_directory.empty() ? default_spill_directory() : options_->spill_directory);
}

std::span<const std::byte> Backlog::front() {
    if (in_memory() == 0 && file_ && file_->bytes() > 0 && error_ == 0) {
        begin_ = 0;
        memory_.resize(std::clamp(options_->memory_bytes, kLeastReadBackBytes, kMostReadBackBytes));
        const std::ptrdiff_t count = file_->pop(memory_);
        if (count < 0) error_ = static_cast<int>(-count);
        memory_.resize(static_cast<std::size_t>(std::max<std::ptrdiff_t>(count, 0)));
    }
    return {memory_.data() + begin_, in_memory()};
}

void Backlog::drop(std::size_t bytes) noexcept {
    VMCOW_ASSERT(bytes <= in_memory() && "no more is dropped than front() returned");
    begin_ += bytes;
    if (begin_ < memory_.size()) return;
    memory_.clear();
    begin_ = 0;
}

void Backlog::clear() noexcept {
    memory_.clear();
    memory_.shrink_to_fit();
    begin_ = 0;
    file_.reset();
}

void Backlog::report_to(EndReport& report) const noexcept {
    report.held_bytes = most_in_memory_;
    report.spilled_bytes = spilled_;
}

}  // namespace pipes
