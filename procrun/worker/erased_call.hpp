#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "pipes/channel/message_codec.hpp"
#include "procrun/call/payload.hpp"
#include "procrun/call_cost.hpp"
#include "procrun/call_options.hpp"
#include "procrun/outcome.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/value/snapshot_part.hpp"
#include "vmcow/value/value_block.hpp"
#include "vmcow/value/value_image.hpp"

// A call without its types: the bytes and images that a worker is given, and those that come back.

namespace procrun::detail {

/// One image argument of a call, on the caller's side: a snapshot, a borrowed arena or block, a moved arena, or a small
/// value whose bytes are sent.
struct ImageArgument {
    ImageMode mode = ImageMode::read_only;
    std::optional<vmcow::Snapshot> snapshot;
    const vmcow::Arena* borrowed = nullptr;              ///< the caller waits (I2)
    std::optional<vmcow::BorrowedBlock> borrowed_block;  ///< the caller waits (I2)
    vmcow::ValueHandle sent;
    bool is_last_use = false;       ///< the caller has given the value up
    const std::byte* at = nullptr;  ///< where the caller has `snapshot` mapped, if not at its base
    bool grows = false;             ///< the function may extend it
    /// The part that `snapshot` is the image of: the function gets the bytes behind the part's `skip`.
    std::optional<vmcow::SnapshotPart> part;
    std::optional<vmcow::Arena> moved;

    [[nodiscard]] bool is_sent() const noexcept { return static_cast<bool>(sent); }
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept;
    [[nodiscard]] std::uint64_t mapped_bytes() const noexcept;
    /// The image's address in the caller.
    [[nodiscard]] const std::byte* address() const noexcept;
    /// Whether the owner may write to the image's base between two calls.
    [[nodiscard]] bool may_change() const noexcept;
};

/// A call without its types.
// NOLINTNEXTLINE(bugprone-exception-escape): as MessageWriter.
struct ErasedCall {
    Trampoline function = nullptr;
    pipes::MessageWriter arguments;
    std::vector<ImageArgument> images;  ///< at most kMaxImages
    CallOptions options;
    std::int64_t asked_ns = 0;          ///< CLOCK_MONOTONIC
    bool may_spin = false;              ///< there are processors enough
    bool was_queued = false;            ///< the call has waited for a worker
    std::shared_ptr<vmcow::Loan> loan;  ///< of a moved arena that the worker has mapped already
    /// Keep other handles from freezing borrowed arenas during the call. Held by the thread that waits.
    std::vector<std::unique_lock<std::recursive_mutex>> locks;
    bool is_synchronous = false;  ///< the caller waits, so that the call may borrow its arenas and blocks (I2)
    std::size_t sent_bytes = 0;   ///< of all values that are sent, each rounded up to kSentAlignment

    /// Starts the call's clock.
    void begin(const CallOptions& how);
};

/// Has the value's bytes sent with the call. False if the value is no block, is larger than kLargestSent, or does not
/// fit beside the other values that are sent. The call keeps a handle of the value: an edit by the caller meanwhile
/// copies, and does not change what is sent.
[[nodiscard]] bool send_block(ErasedCall& call, const vmcow::ValueHandle& value, ImageArgument& to);

/// Chooses how a value goes. A small one is sent. One that nobody shares is moved if the call is its last use and
/// changes it, or borrowed if the caller waits and the call does not change it. Any other value goes as a snapshot.
void put_value_image(ErasedCall& call, const vmcow::ValueHandle& value, bool is_last_use, ImageArgument& to);
/// Gives up the call's locks on borrowed arenas, for a caller that keeps others from changing or freezing them until
/// the call is done. Opens the arenas' descriptors, too: otherwise the first use would, in several threads at once.
/// Throws: std::system_error -- EMFILE.
void open_borrowed(ErasedCall& call);

/// An image that the function could change, as it is after the call.
struct ChangedImage {
    std::optional<vmcow::Snapshot> applied;
    vmcow::ValueBlock block;                  ///< the bytes of a value that was sent, if they have changed
    vmcow::ValueHandle as_it_was;             ///< the value that was sent, if its bytes have not changed
    std::optional<vmcow::SnapshotPart> part;  ///< the part of a value that `applied` is the image of
    std::optional<vmcow::Arena> moved_back;
};

/// How a call has ended, and its result.
struct ErasedResult {
    Outcome outcome{OutcomeKind::not_started, 0, {}};
    CallCost cost;
    std::optional<Payload> payload;
    std::vector<vmcow::sys::UniqueFd> fds;
    std::vector<ChangedImage> changed;  ///< in the order of the arguments
};

}  // namespace procrun::detail
