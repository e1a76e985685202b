#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/call_protocol.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/snapshot_part.hpp"

namespace procrun::detail {

/// One image argument of a call, on the caller's side: a snapshot, or an arena that is lent or moved.
struct ImageArgument {
    ImageMode mode = ImageMode::read_only;
    std::optional<vmcow::Snapshot> snapshot;
    const vmcow::Arena* lent = nullptr;  ///< the caller waits (I2)
    bool grows = false;                  ///< the function may extend it
    /// `snapshot` is the image of this part: the function gets what lies behind its `skip`.
    std::optional<vmcow::SnapshotPart> part;
    std::optional<vmcow::Arena> moved;

    [[nodiscard]] std::uint64_t extent_bytes() const noexcept;
    [[nodiscard]] std::uint64_t mapped_bytes() const noexcept;
    /// Where the caller has it.
    [[nodiscard]] const std::byte* address() const noexcept;
};

/// What one worker knows of images, as its caller remembers it; and how it is told what it lacks.
///
/// An entry is a base with the deltas of the snapshot over it that was used last. What has gone here is forgotten there
/// at the next call.
class ImageMirror {
public:
    /// Finds or makes the entry of an argument. Entries that this call uses already are in `used`.
    /// Sends a lesson if one is needed, and counts it in `lessons`.
    /// Throws: std::system_error -- EMFILE, EPIPE, …; then the worker is no longer as it is remembered here.
    [[nodiscard]] ImageRequest find(const ImageArgument& argument, std::uint32_t used, pipes::MessageSocket& socket,
                                    std::uint32_t& lessons);

    /// The last call here has turned this entry's image into `result`.
    void note_result(std::uint8_t entry, const vmcow::Snapshot& result);

    /// Forgets images that have ended here. Pre: as `find`.
    void forget_ended(pipes::MessageSocket& socket, std::uint32_t& lessons);

    [[nodiscard]] bool knows(const ImageArgument& argument) const noexcept;
    /// Whether it has images mapped writable that were moved there and are none of these arguments.
    [[nodiscard]] bool has_moved_but(std::span<const ImageArgument> arguments) const noexcept;
    /// Forgets them; the inode numbers of their files.
    std::vector<std::uint64_t> forget_moved();

private:
    enum class Kind : std::uint8_t { none, snapshot, lent, moved };
    struct Entry {
        Kind kind = Kind::none;
        std::uint64_t key = 0;  // of the base, or of the arena's image
        std::uint64_t layers_id = 0;
        std::uint64_t result_id = 0;  // layers that the last call has made of it
        std::vector<std::uint64_t> deltas;
        std::set<std::uint64_t> chunks;
        std::weak_ptr<const void> alive;
        std::uint64_t inode = 0;  // of a moved image's file
        std::uint64_t used_at = 0;
    };

    [[nodiscard]] static Kind kind_of(const ImageArgument& argument) noexcept;
    [[nodiscard]] static std::uint64_t key_of(const ImageArgument& argument) noexcept;
    /// The number of its layers; an arena's image has none.
    [[nodiscard]] static std::uint64_t argument_layers(const ImageArgument& argument) noexcept;
    [[nodiscard]] std::uint8_t place_for(const ImageArgument& argument, std::uint32_t used, bool& found);
    void teach(std::uint8_t at, const ImageArgument& argument, bool keep_base, pipes::MessageSocket& socket);
    static void teach_deltas(Entry& entry, const vmcow::Layers& layers, ImageLesson& lesson, std::vector<int>& fds,
                             std::vector<std::shared_ptr<const vmcow::Delta>>& sent);

    std::array<Entry, kImageEntries> entries_;
    std::size_t filled_ = 0;  // entries that have been used, the first ones
    std::uint64_t clock_ = 0;
};

}  // namespace procrun::detail
