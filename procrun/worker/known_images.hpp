#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "procrun/worker/erased_call.hpp"
#include "vmcow/image/page_tree.hpp"
#include "vmcow/snapshot.hpp"

namespace vmcow {
class Delta;
class Layers;
class StoredPages;
}  // namespace vmcow

namespace procrun::detail {

/// What one worker knows of images, as its caller remembers it. Sends the worker updates about images that it lacks.
///
/// An entry is a base with the version over it that was used last. Of another version the worker is sent what lies
/// elsewhere, whether it is newer or older. An image that has ended in the caller is forgotten some calls later. So are
/// those that were used longest ago, where all together take more than a budget of memory, or more than a quarter of
/// the descriptors that a process may have.
///
/// Cost: O(1) for an image that is known, whatever their number. `kBytesAnImage` an entry, in the caller and in the
///       worker.
class KnownImages {
public:
    static constexpr std::size_t kBytesAnImage = 256;

    /// `budget` is in bytes. Those of a single call are never too many.
    explicit KnownImages(std::size_t budget) noexcept;

    /// Finds or makes the entry of an argument; `used` are the entries that this call uses already. Sends an update if
    /// one is needed, and counts it in `updates`.
    /// Throws: std::system_error -- EMFILE, EPIPE, …; then the worker may know other images than are remembered here.
    [[nodiscard]] ImageRequest find(const ImageArgument& argument, std::span<const std::uint16_t> used,
                                    pipes::MessageSocket& socket, std::uint32_t& updates);

    /// Notes that the worker's last call has turned this entry's image into `result`.
    void note_result(std::uint16_t entry, const vmcow::Snapshot& result);

    /// Forgets images and chunks that have ended in the caller, and images that the budget has no room for. Tells the
    /// worker, and counts the messages in `updates`.
    /// Throws: as `find`.
    /// Cost:   a look at 16 entries and at all chunks, which are few.
    void drop_unused(pipes::MessageSocket& socket, std::uint32_t& updates);

    [[nodiscard]] bool knows(const ImageArgument& argument) const noexcept;
    /// Whether the worker still has a moved image mapped that is none of these arguments.
    [[nodiscard]] bool has_moved_but(std::span<const ImageArgument> arguments) const noexcept;
    /// Forgets all moved images. Returns the inode numbers of their files.
    std::vector<std::uint64_t> drop_moved();

private:
    enum class Kind : std::uint8_t { none, snapshot, borrowed, borrowed_block, moved };
    /// Names an image: its kind, and the number of the base, of the block or of the arena's image.
    struct Key {
        Kind kind = Kind::none;
        std::uint64_t number = 0;
        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(const Key& key) const noexcept {
            return std::hash<std::uint64_t>()(key.number * 8 + static_cast<std::uint64_t>(key.kind));
        }
    };
    using UseOrder = std::list<std::uint16_t>;  // entries; the first was used longest ago
    struct Entry {
        Key key;
        std::uint64_t layers_id = 0;
        std::uint64_t result_id = 0;  // the layers that the last call has made of the image
        std::uint64_t extent_bytes = 0;
        vmcow::PageTree shown;  // the version that the worker has
        vmcow::PageTree sent;   // the same pages in the blocks in which the worker has them, which stay for it (I1)
        vmcow::PageCount held;  // of these blocks, at the most
        std::weak_ptr<const void> alive;
        std::uint64_t inode = 0;  // of a moved image's file
        bool has_file = false;    // takes a descriptor of its own in the worker
        std::uint64_t used_at = 0;
        UseOrder::iterator use;
    };

    [[nodiscard]] static Key key_of(const ImageArgument& argument) noexcept;
    /// The number of a snapshot's layers; 1 for other images, which have none.
    [[nodiscard]] static std::uint64_t layers_of(const ImageArgument& argument) noexcept;
    [[nodiscard]] static bool has_file(const ImageArgument& argument) noexcept;
    [[nodiscard]] std::uint16_t place_for(const ImageArgument& argument, std::span<const std::uint16_t> used,
                                          bool& found);
    [[nodiscard]] std::uint16_t free_place(bool has_file, std::span<const std::uint16_t> used);
    [[nodiscard]] std::uint16_t forget_oldest(const UseOrder& order, std::span<const std::uint16_t> used);
    [[nodiscard]] const UseOrder& longest_unused() const noexcept;
    [[nodiscard]] bool is_over_budget() const noexcept;
    void end_entry(std::uint16_t at, pipes::MessageSocket& socket, std::uint32_t& updates);
    void note_use(std::uint16_t at);
    /// Empties an entry in this book. Tells the worker nothing.
    void clear(std::uint16_t at);
    void send_update(std::uint16_t at, const ImageArgument& argument, bool keep_base, pipes::MessageSocket& socket);
    void add_base(const ImageArgument& argument, ImageUpdate& update, std::vector<int>& fds);
    void add_version(Entry& entry, const vmcow::Layers& layers, ImageUpdate& update, std::vector<int>& fds,
                     std::vector<std::shared_ptr<const vmcow::Delta>>& kept);
    void add_delta(const std::shared_ptr<const vmcow::Delta>& delta, ImageUpdate& update, std::vector<int>& fds,
                   std::vector<std::shared_ptr<const vmcow::Delta>>& kept);
    [[nodiscard]] bool is_new_chunk(const vmcow::StoredPages& pages);

    std::size_t budget_;
    std::size_t most_files_;
    std::uint64_t clock_ = 0;
    std::deque<Entry> entries_;
    std::vector<std::uint16_t> free_;
    std::unordered_multimap<Key, std::uint16_t, KeyHash> places_;
    UseOrder with_files_;
    UseOrder without_files_;
    std::vector<std::uint16_t> moved_;
    std::map<std::uint64_t, std::weak_ptr<const void>> chunks_;
    std::size_t next_look_ = 0;
};

}  // namespace procrun::detail
