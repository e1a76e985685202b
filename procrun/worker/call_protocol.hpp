#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "procrun/call_cost.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {

/// The memory and the messages between a caller and one worker. A worker may write anything into any of it at any time:
/// the caller copies a reply before it reads it, and trusts no number in it (I3).
///
///     call memory (memfd, sealed against growing and shrinking)
///     | CallMemory | arguments 32 KiB | result 32 KiB | outbox: pages changed by apply, sparse |

inline constexpr std::size_t kMaxImages = 8;
inline constexpr std::size_t kMaxDeltasSent = 4;
/// Arguments and results up to this size lie in the call memory; longer ones in a memfd of their own.
inline constexpr std::size_t kInlineBytes = std::size_t{32} << 10;
/// Changed pages up to this many come back through the call memory; more of them in a memfd of their own.
inline constexpr vmcow::PageCount kOutboxPages{8192};
/// Values of up to this many bytes are sent with the request.
inline constexpr std::size_t kLargestSent = std::size_t{8} << 10;
/// Where values that are sent begin, in the area of the arguments and in the area of the result: behind the arguments
/// and the result themselves.
inline constexpr std::size_t kSentOffset = std::size_t{8} << 10;
/// A value that is sent begins on a cache line.
inline constexpr std::size_t kSentAlignment = 64;
static_assert(kSentOffset + kLargestSent <= kInlineBytes);
/// The number before that of the first request: far from what a function that overwrites a call memory leaves there.
inline constexpr std::uint64_t kFirstNumber = 0x5eed'c0de'0000'0000;
/// Arguments and results up to this size lie beside the request or the reply: a short call moves two neighbouring cache
/// lines each way.
inline constexpr std::size_t kSmallBytes = 64;
/// Addresses behind an image into which a function can make it grow. An image comes back longer by at most this much.
inline constexpr std::size_t kGrowthRoom = std::size_t{16} << 30;
/// By how much a moved image can grow. Its file is made so much longer before the call, which takes no memory.
inline constexpr std::size_t kMovedRoom = std::size_t{4} << 30;
/// The most images that a worker knows, whatever its budget: their numbers are in each request.
inline constexpr std::size_t kImageEntries = 65535;

class WorkerCall;
using Trampoline = void (*)(WorkerCall&);

/// Where bytes lie: beside the request or the reply, in the call memory's area for arguments, results or changed pages,
/// or in a file whose descriptor comes over the socket.
enum class Where : std::uint8_t { nowhere, small, call_memory, file };

enum class RequestKind : std::uint8_t {
    call,
    unmap_moved,  ///< unmap all images that were moved to this worker
};

/// How an image argument is to be mapped.
enum class ImageMode : std::uint8_t { read_only, by_value, apply, moved };

struct ImageRequest {
    std::uint64_t extent_bytes = 0;
    std::uint32_t sent_at = 0;  ///< of a value that is sent: its offset in the area of the arguments
    std::uint16_t skip = 0;     ///< the function's object begins behind so many bytes
    std::uint16_t entry = 0;
    bool is_sent = false;
    ImageMode mode = ImageMode::read_only;
    bool grows = false;           ///< the function may extend it
    bool borrowed = false;        ///< the owner may have written to it since the last call (I2)
    bool result_of_last = false;  ///< the image is what this worker's last call with the entry has made of it
};

struct Request {
    Trampoline function = nullptr;
    std::uint64_t argument_bytes = 0;
    std::int64_t asked_ns = 0;  ///< CLOCK_MONOTONIC
    std::uint32_t open_files = 0;
    RequestKind kind = RequestKind::call;
    std::uint16_t updates = 0;  ///< messages (ImageUpdate) to be read from the socket before the call
    std::uint8_t image_count = 0;
    Where arguments = Where::nowhere;  ///< file: one more message brings the descriptor
    bool count_bytes = false;
    bool may_spin = false;
    bool limits_files = false;
    bool limits_processor = false;
    std::array<std::byte, kSmallBytes> small{};  ///< the arguments, if they fit
    std::array<ImageRequest, kMaxImages> images{};
};

enum class ReplyKind : std::uint8_t { returned, threw, failed, out_of_descriptors };

struct ImageReply {
    std::uint64_t extent_bytes = 0;  ///< after the call: more than before if the function has made the image grow
    std::uint64_t copied_pages = 0;
    std::uint64_t refreshed_pages = 0;
    std::uint64_t changed_pages = 0;
    std::uint64_t changed_bytes = 0;
    std::uint64_t resident_pages = 0;
    std::uint32_t change_count = 0;
    std::uint32_t sent_at = 0;  ///< of a value that was sent: its offset in the area of the result
    CallPath path = CallPath::alias;
    PathReason reason = PathReason::read_only_parameter;
    /// Where the pages changed by apply lie, in the order of the images. A value that was sent comes back as a whole.
    Where changes = Where::nowhere;
};

struct Reply {
    std::int64_t mapped_ns = 0;  ///< CLOCK_MONOTONIC
    std::int64_t ran_ns = 0;
    std::int64_t processor_ns = 0;  ///< processor time of the call, where that is limited
    std::uint64_t payload_bytes = 0;
    std::uint64_t resident_pages = 0;  ///< of all images, where the call has mapped one privately
    std::int32_t error = 0;            ///< errno, for failed: `step` says where the call was
    std::uint16_t fd_count = 0;
    ReplyKind kind = ReplyKind::returned;
    CallStep step = CallStep::none;
    Where payload = Where::nowhere;
    bool counted = false;
    bool finished = false;  ///< end this worker before a moved image is used: the function has left something running
    std::array<std::byte, kSmallBytes> small{};  ///< the result, if it fits
    std::array<ImageReply, kMaxImages> images{};
};

/// Copies a request or a reply with the first `count` of its images. `images` is the last member, so that a call
/// without images moves two cache lines, not ten.
template <class T>
void copy_with_images(T& to, const T& from, std::size_t count) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t images = std::min(count, kMaxImages) * sizeof(to.images[0]);
    std::memcpy(static_cast<void*>(&to), &from, offsetof(T, images) + images);
}

enum class WorkerState : std::uint32_t { idle, busy, retired };

/// The head of a call memory. A word that one side writes while the other side reads other words has its own cache
/// line: a line that both touch at every call costs as much as the rest of the call.
struct CallMemory {
    // Written by the caller.
    alignas(128) std::atomic<std::uint64_t> request_number{0};
    std::atomic<std::uint32_t> caller_processor{0};
    Request request;
    alignas(64) std::atomic<std::uint32_t> caller_asleep{0};
    alignas(64) std::atomic<WorkerState> state{WorkerState::idle};
    // Written by the worker.
    alignas(128) std::atomic<std::uint64_t> reply_number{0};
    Reply reply;
    alignas(64) std::atomic<std::uint32_t> worker_asleep{0};
    alignas(64) std::atomic<std::uint32_t> worker_processor{0};
    alignas(64) std::atomic<std::uint64_t> received_number{kFirstNumber};
    std::atomic<CallStep> step{CallStep::none};
};
static_assert(offsetof(Request, small) + 16 <= 64 && offsetof(Reply, small) + 8 <= 64,
              "the record's head shares one cache line with its number");
static_assert(sizeof(CallMemory) <= vmcow::kPageBytes);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

inline constexpr std::size_t kArgumentsOffset = vmcow::kPageBytes;
inline constexpr std::size_t kResultOffset = kArgumentsOffset + kInlineBytes;
/// On a huge page's boundary, so that the outbox can consist of huge pages.
inline constexpr std::size_t kOutboxOffset = vmcow::kHugeBytes;
static_assert(kResultOffset + kInlineBytes <= kOutboxOffset);
/// The outbox: pages, and behind them the table of their page indices, as in a delta.
inline constexpr std::size_t kOutboxBytes = kOutboxPages.bytes() + kOutboxPages.value * sizeof(vmcow::PageIndex);
inline constexpr std::size_t kCallMemoryBytes = vmcow::round_up(kOutboxOffset + kOutboxBytes, vmcow::kHugeBytes);

/// Tells a worker about one image, which it knows from now on under `entry`. The update is sent over the worker's
/// socket before the request that needs the image. Descriptors travel with it in this order: that of the base, if the
/// base is new and does not lie in a chunk that the worker has; then that of each new chunk or delta.
struct ImageUpdate {
    enum class DeltaKind : std::uint8_t {
        chunk,      ///< in a chunk of the page store that the worker has already
        new_chunk,  ///< in a chunk whose descriptor comes with the update
        file,       ///< in a file of its own, whose descriptor comes with the update
    };
    /// What an update is about.
    enum class Kind : std::uint8_t {
        image,
        entry_ended,  ///< drop the entry's image
        chunk_ended,  ///< drop the chunk `base_chunk`
    };
    struct DeltaUpdate {
        DeltaKind kind = DeltaKind::chunk;
        std::uint64_t chunk_id = 0;
        std::uint64_t file_offset = 0;
        std::uint64_t pages = 0;
        std::uint64_t first_page = 0;
    };

    std::uint16_t entry = 0;
    Kind kind = Kind::image;
    bool keep_base = false;  ///< the entry's base stays, and with it the pages that are resident
    bool relative = false;   ///< the deltas come over what the entry has, not over its base
    bool borrowed = false;
    bool is_part = false;       ///< the worker must not see the bytes before `skip` and behind the extent
    bool on_disk = false;       ///< the base lies in a regular file
    bool moved = false;         ///< the descriptor is writable: map it shared, then close it
    bool stored = false;        ///< the base lies in `base_chunk` of the page store
    bool is_new_chunk = false;  ///< the descriptor of `base_chunk` comes with the update
    std::uint8_t delta_count = 0;
    std::uint64_t address = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t base_chunk = 0;
    std::uint64_t base_offset = 0;  ///< in the base's file
    std::uint64_t base_bytes = 0;
    std::uint64_t skip = 0;
    std::array<DeltaUpdate, kMaxDeltasSent> deltas{};
    std::array<char, 48> name{};
};

}  // namespace procrun::detail
