#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "vmcow/image/copy_costs.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/resident_view.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/image/writable_image.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// A shared and writable mapping of an image that was moved to this worker. Children of the function get a private
/// copy: only this process may write, and only until its owner looks at the image (I3).
class MovedImage final : public vmcow::WritableImage {
public:
    /// Throws: std::system_error -- ENOMEM, EMFILE.
    MovedImage(vmcow::sys::UniqueFd fd, vmcow::Slot slot, std::size_t bytes);
    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return capacity_; }
};

/// The images that one worker knows, under the numbers that its caller has given them.
class WorkerImages {
public:
    WorkerImages(const vmcow::CopyCosts& costs, vmcow::PageCount budget) : costs_(costs), budget_(budget) {}

    /// Takes in an update from the caller (ImageUpdate).
    /// Throws: std::system_error -- EMFILE, ENOMEM, EBADMSG.
    void apply_update(pipes::Message message);

    /// What the function gets for one argument.
    struct Prepared {
        std::byte* data = nullptr;
        std::uint64_t extent_bytes = 0;
        vmcow::ResidentView* view = nullptr;  ///< the private view, where there is one
        std::size_t capacity = 0;             ///< of a moved image: how far its file reaches
    };
    /// Maps an argument, or refreshes its view, before the function runs.
    /// Throws: std::system_error -- ENOMEM, EBADMSG (no such entry).
    [[nodiscard]] Prepared prepare(const ImageRequest& request, ImageReply& reply);

    /// The private view of an argument that was prepared; nullptr if it has none.
    [[nodiscard]] vmcow::ResidentView* view_of(const ImageRequest& request) noexcept;
    /// Whether to restore a view right after the reply: not if its content is likely to be the next call's image.
    [[nodiscard]] bool restore_now(const ImageRequest& request) const noexcept;
    /// The private pages of all views. Counts those of `request` anew.
    [[nodiscard]] vmcow::PageCount resident(const Request& request) noexcept;
    /// Unmaps views, those used longest ago first, until their pages are within the budget and there are at most 8192
    /// views. The views of `request` stay.
    void keep_to_budget(const Request& request) noexcept;
    /// Unmaps every image that was moved here.
    void unmap_moved() noexcept;
    /// False if the function has unmapped a private view of its request. Cost: 200 ns a view.
    [[nodiscard]] bool are_mapped(const Request& request) noexcept;
    /// False if a moved image, or one of the 16 views used last, is not mapped any more. Other views are checked when
    /// they are used again.
    [[nodiscard]] bool are_mapped() const noexcept;

private:
    using UseOrder = std::list<std::uint16_t>;  // entries; the first was used longest ago
    struct Entry {
        std::optional<vmcow::Snapshot> snapshot;
        std::uint64_t address = 0;  // the image's address in the caller
        std::uint64_t used_at = 0;
        std::unique_ptr<vmcow::ResidentView> view;
        UseOrder::iterator use;      // the view's place in `views_`
        vmcow::PageCount counted;    // the view's share of `resident_`
        bool results_follow = true;  // the result of an apply is usually the next call's image
        std::unique_ptr<MovedImage> moved;
    };

    /// A chunk of the caller's page store: its file, and a mapping of the whole file once a delta lies in it.
    struct Chunk {
        std::shared_ptr<const vmcow::sys::UniqueFd> fd;
        std::shared_ptr<const vmcow::ReadOnlyImage> whole;
    };

    [[nodiscard]] Chunk& chunk(std::uint64_t id, bool is_new, pipes::Message& message, std::size_t& next_fd);
    [[nodiscard]] std::shared_ptr<const vmcow::ReadOnlyImage> base_of(const ImageUpdate& update,
                                                                      pipes::Message& message, std::size_t& next_fd);
    void clear(std::uint16_t at) noexcept;
    void drop_view(Entry& entry) noexcept;
    void recount(Entry& entry) noexcept;
    [[nodiscard]] std::shared_ptr<const vmcow::Delta> take_delta(const ImageUpdate::DeltaUpdate& update,
                                                                 pipes::Message& message, std::size_t& next_fd,
                                                                 vmcow::PageCount image_pages);
    Prepared prepare_view(std::uint16_t at, const ImageRequest& request, ImageReply& reply);

    vmcow::CopyCosts costs_;
    vmcow::PageCount budget_;
    std::deque<Entry> entries_;
    UseOrder views_;
    vmcow::PageCount resident_;
    std::vector<std::uint16_t> moved_;
    std::map<std::uint64_t, Chunk> chunks_;
    std::uint64_t clock_ = 0;
};

}  // namespace procrun::detail
