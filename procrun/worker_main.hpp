#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "pipes/value_message.hpp"
#include "procrun/call_protocol.hpp"
#include "vmcow/copy_costs.hpp"
#include "vmcow/image_heap.hpp"
#include "vmcow/resident_view.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {

/// What every worker of a pool is told at its birth.
struct WorkerConfig {
    std::chrono::nanoseconds idle_time{};
    vmcow::PageCount resident_budget;
    vmcow::CopyCosts costs;
    void (*at_step)(CallStep) = nullptr;  ///< called in the worker at each step
};

/// What a worker is born with: its ends of what connects it to its caller.
struct WorkerEnds {
    vmcow::sys::UniqueFd channel;
    vmcow::sys::UniqueFd request_pipe;  ///< read end
    vmcow::sys::UniqueFd reply_pipe;    ///< write end
    vmcow::sys::UniqueFd socket;
};

/// An image as the function's trampoline sees it. One that the function may extend lies either in a view, behind which
/// there is room, or in a file that is longer than the image.
struct CallImage final : vmcow::HeapGrowth {
    [[nodiscard]] std::size_t grow(std::size_t bytes) override;

    std::byte* data = nullptr;
    std::uint64_t extent_bytes = 0;
    vmcow::ResidentView* view = nullptr;
    std::size_t capacity = 0;
};

/// One call as the function's trampoline sees it.
class WorkerCall {
public:
    using Image = CallImage;

    WorkerCall(pipes::MessageReader arguments, std::array<Image, kMaxImages>& images) noexcept
        : arguments_(std::move(arguments)), images_(images) {}

    [[nodiscard]] pipes::MessageReader& arguments() noexcept { return arguments_; }
    [[nodiscard]] pipes::MessageWriter& result() noexcept { return result_; }
    [[nodiscard]] Image& image(std::size_t i) const noexcept { return images_[i]; }

private:
    pipes::MessageReader arguments_;
    pipes::MessageWriter result_;
    std::array<Image, kMaxImages>& images_;
};

/// The life of a worker: takes calls until its caller is gone, or until it has been idle for long enough. Returns the
/// exit status.
int worker_main(WorkerEnds ends, const WorkerConfig& config) noexcept;

}  // namespace procrun::detail
