#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "pipes/channel/message_codec.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "vmcow/value/image_heap.hpp"

namespace vmcow {
class ResidentView;
}  // namespace vmcow

namespace procrun::detail {

class SentImage;

/// An image as the function's trampoline sees it. An image that the function may extend lies in a view or a sent image
/// with room behind it, or in a file that is longer than the image.
struct CallImage final : vmcow::HeapGrowth {
    [[nodiscard]] std::size_t grow(std::size_t bytes) override;
    void note_alignment(std::size_t alignment) noexcept override { vmcow::detail::note_alignment(data, alignment); }

    std::byte* data = nullptr;
    std::uint64_t extent_bytes = 0;
    vmcow::ResidentView* view = nullptr;
    SentImage* sent = nullptr;
    std::size_t capacity = 0;
};

/// One call as the function's trampoline sees it.
class WorkerCall {
public:
    WorkerCall(pipes::MessageReader arguments, std::array<CallImage, kMaxImages>& images) noexcept
        : arguments_(std::move(arguments)), images_(images) {}

    [[nodiscard]] pipes::MessageReader& arguments() noexcept { return arguments_; }
    [[nodiscard]] pipes::MessageWriter& result() noexcept { return result_; }
    [[nodiscard]] CallImage& image(std::size_t i) const noexcept { return images_[i]; }

private:
    pipes::MessageReader arguments_;
    pipes::MessageWriter result_;
    std::array<CallImage, kMaxImages>& images_;
};

}  // namespace procrun::detail
