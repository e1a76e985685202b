#pragma once

#include <cstddef>

#include "procrun/worker/call_protocol.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/slot.hpp"

namespace procrun::detail {

/// A call memory's file, mapped into this process. Children do not inherit the mapping; its addresses stay reserved in
/// them.
class MappedCallMemory final : public vmcow::MappedImage {
public:
    /// Throws: std::system_error -- ENOMEM.
    explicit MappedCallMemory(int fd);
    ~MappedCallMemory() override;

    [[nodiscard]] CallMemory* operator->() const noexcept { return reinterpret_cast<CallMemory*>(slot_.address()); }
    [[nodiscard]] std::byte* arguments() const noexcept { return slot_.address() + kArgumentsOffset; }
    [[nodiscard]] std::byte* result() const noexcept { return slot_.address() + kResultOffset; }
    [[nodiscard]] std::byte* outbox() const noexcept { return slot_.address() + kOutboxOffset; }
    /// The table of the outbox's page indices, as in a delta.
    [[nodiscard]] std::byte* outbox_table() const noexcept { return outbox() + kOutboxPages.bytes(); }

private:
    [[nodiscard]] int reserve_again() noexcept override;
    [[nodiscard]] bool goes_along() const noexcept override { return false; }

    vmcow::Slot slot_;
};

}  // namespace procrun::detail
