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

/// What a caller and one warm function process share and say to each other. A worker may write anything into any of it
/// at any time: the caller copies a reply before it looks at it, and trusts no number in it (I3).
///
///     channel (memfd, sealed against growing and shrinking)
///     | Channel | arguments 32 KiB | result 32 KiB | outbox: pages changed by apply, sparse |

inline constexpr std::size_t kMaxImages = 8;
inline constexpr std::size_t kMaxDeltasSent = 4;
/// Arguments and results up to this size lie in the channel; longer ones in a memfd of their own.
inline constexpr std::size_t kInlineBytes = std::size_t{32} << 10;
/// Changed pages up to this many come back through the channel; more of them in a memfd of their own.
inline constexpr vmcow::PageCount kOutboxPages{8192};
/// The number before that of the first request: far from what a function that overwrites a channel leaves there.
inline constexpr std::uint64_t kFirstNumber = 0x5eed'c0de'0000'0000;
/// Those up to this size lie beside the request or the reply: a short call moves two neighbouring cache lines each way.
inline constexpr std::size_t kSmallBytes = 64;
/// Addresses behind an image into which a function can make it grow; that many at the most can come back.
inline constexpr std::size_t kGrowthRoom = std::size_t{16} << 30;
/// The same for one that is moved, whose file is made so much longer before: that takes no memory.
inline constexpr std::size_t kMovedRoom = std::size_t{4} << 30;
/// Images that a worker keeps at hand.
inline constexpr std::size_t kImageEntries = 16;

class WorkerCall;
using Trampoline = void (*)(WorkerCall&);

/// Where bytes are: beside the request or the reply that tells of them, in the channel's area for them, or in a file
/// that comes over the socket.
enum class Where : std::uint8_t { nowhere, small, channel, file };

enum class RequestKind : std::uint8_t {
    call,
    let_go,  ///< unmap what was moved here
};

/// How an image argument is to be mapped.
enum class ImageMode : std::uint8_t { read_only, by_value, apply, moved };

struct ImageRequest {
    std::uint64_t extent_bytes = 0;
    std::uint16_t skip = 0;  ///< what the function gets lies behind so many bytes
    std::uint8_t entry = 0;
    ImageMode mode = ImageMode::read_only;
    bool grows = false;           ///< the function may extend it
    bool lent = false;            ///< the owner may have written to it since the last call (I2)
    bool result_of_last = false;  ///< it is what the last call here has made of the entry's image
};

struct Request {
    Trampoline function = nullptr;
    std::uint64_t argument_bytes = 0;
    std::int64_t asked_ns = 0;  ///< CLOCK_MONOTONIC
    std::uint32_t open_files = 0;
    RequestKind kind = RequestKind::call;
    std::uint8_t lessons = 0;  ///< messages to be read from the socket first
    std::uint8_t image_count = 0;
    Where arguments = Where::nowhere;  ///< file: one more message brings it
    bool count_bytes = false;
    bool may_spin = false;
    bool limits_files = false;
    bool limits_processor = false;
    std::array<std::byte, kSmallBytes> small{};  ///< arguments that are as short as that
    std::array<ImageRequest, kMaxImages> images{};
};

enum class ReplyKind : std::uint8_t { returned, threw, failed, out_of_descriptors };

struct ImageReply {
    std::uint64_t extent_bytes = 0;  ///< where it has grown
    std::uint64_t copied_pages = 0;
    std::uint64_t refreshed_pages = 0;
    std::uint64_t changed_pages = 0;
    std::uint64_t changed_bytes = 0;
    std::uint64_t resident_pages = 0;
    CallPath path = CallPath::alias;
    PathReason reason = PathReason::read_only_parameter;
};

struct Reply {
    std::int64_t mapped_ns = 0;  ///< CLOCK_MONOTONIC
    std::int64_t ran_ns = 0;
    std::int64_t processor_ns = 0;  ///< what the call has used, where that is limited
    std::uint64_t payload_bytes = 0;
    std::uint64_t resident_pages = 0;  ///< of all images, where one was mapped privately
    std::uint32_t change_count = 0;
    std::int32_t error = 0;  ///< errno, for failed: `step` says in doing what
    std::uint16_t fd_count = 0;
    ReplyKind kind = ReplyKind::returned;
    CallStep step = CallStep::none;
    Where payload = Where::nowhere;
    Where changes = Where::nowhere;  ///< where the pages changed by apply are
    bool counted = false;
    bool finished = false;  ///< the worker ends after this reply: the function has left something running
    std::array<std::byte, kSmallBytes> small{};  ///< a result that is as short as that
    std::array<ImageReply, kMaxImages> images{};
};

/// Copies a request or a reply with the first `count` of its images, its last member: a call without images moves two
/// cache lines, not ten.
template <class T>
void copy_with_images(T& to, const T& from, std::size_t count) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t images = std::min(count, kMaxImages) * sizeof(to.images[0]);
    std::memcpy(static_cast<void*>(&to), &from, offsetof(T, images) + images);
}

enum class WorkerState : std::uint32_t { idle, busy, retired };

/// The head of a channel. What one side writes while the other one looks at something else lies on a cache line of its
/// own: a line that both touch at every call costs as much as the rest of it.
struct Channel {
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
static_assert(offsetof(Request, small) + 16 <= 64 && offsetof(Reply, small) + 8 <= 64, "one line with the number");
static_assert(sizeof(Channel) <= vmcow::kPageBytes);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

inline constexpr std::size_t kArgumentsOffset = vmcow::kPageBytes;
inline constexpr std::size_t kResultOffset = kArgumentsOffset + kInlineBytes;
/// On a huge page's boundary, so that the outbox can be of huge pages.
inline constexpr std::size_t kOutboxOffset = vmcow::kHugeBytes;
static_assert(kResultOffset + kInlineBytes <= kOutboxOffset);
/// The pages, and behind them their table, as in a delta.
inline constexpr std::size_t kOutboxBytes = kOutboxPages.bytes() + kOutboxPages.value * sizeof(vmcow::PageIndex);
inline constexpr std::size_t kChannelBytes = vmcow::round_up(kOutboxOffset + kOutboxBytes, vmcow::kHugeBytes);

/// One image that a worker is to know from now on, under `entry`; sent over its socket before the request that needs
/// it. Descriptors travel with it in this order: the base's, if it is new; each new chunk's or delta's.
struct ImageLesson {
    enum class DeltaKind : std::uint8_t {
        kept,   ///< `index` of the deltas that the entry had
        chunk,  ///< in a chunk of the page store that the entry has mapped already
        new_chunk,
        file,
    };
    struct DeltaLesson {
        DeltaKind kind = DeltaKind::kept;
        std::uint8_t index = 0;
        std::uint64_t chunk_id = 0;
        std::uint64_t file_offset = 0;
        std::uint64_t pages = 0;
    };

    std::uint8_t entry = 0;
    bool forget = false;     ///< what the entry had goes; nothing else is said
    bool keep_base = false;  ///< the entry's base stays, and with it the pages that are resident
    bool lent = false;
    bool is_part = false;  ///< what lies before `skip` and behind the extent is not for this worker
    bool on_disk = false;  ///< the base lies in a regular file
    bool moved = false;    ///< a writable descriptor: to be mapped shared, and closed
    std::uint8_t delta_count = 0;
    std::uint64_t address = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t base_offset = 0;  ///< in its file
    std::uint64_t base_bytes = 0;
    std::uint64_t skip = 0;
    std::array<DeltaLesson, kMaxDeltasSent> deltas{};
    std::array<char, 48> name{};
};

}  // namespace procrun::detail
