#pragma once

#include <cstddef>

#include "procrun/call_protocol.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"

namespace procrun::detail {

/// A channel's file, mapped into this process. No child has it, but its addresses stay reserved there.
class ChannelMapping final : public vmcow::MappedImage {
public:
    /// Throws: std::system_error -- ENOMEM.
    explicit ChannelMapping(int fd);
    ~ChannelMapping() override;

    [[nodiscard]] Channel* operator->() const noexcept { return reinterpret_cast<Channel*>(slot_.address()); }
    [[nodiscard]] std::byte* arguments() const noexcept { return slot_.address() + kArgumentsOffset; }
    [[nodiscard]] std::byte* result() const noexcept { return slot_.address() + kResultOffset; }
    [[nodiscard]] std::byte* outbox() const noexcept { return slot_.address() + kOutboxOffset; }
    /// Which pages are in the outbox: a table as in a delta.
    [[nodiscard]] std::byte* outbox_table() const noexcept { return outbox() + kOutboxPages.bytes(); }

private:
    int reserve_again() noexcept override;

    vmcow::Slot slot_;
};

}  // namespace procrun::detail
