#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/call_protocol.hpp"
#include "vmcow/copy_costs.hpp"
#include "vmcow/delta.hpp"
#include "vmcow/resident_view.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/snapshot.hpp"

namespace procrun::detail {

/// A shared and writable mapping of an image that was moved here.
class MovedImage {
public:
    /// Throws: std::system_error -- ENOMEM.
    MovedImage(int fd, vmcow::Slot slot, std::size_t bytes);
    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
    vmcow::Slot slot_;  // giving it back unmaps
    std::size_t bytes_;
};

/// The images that one worker has at hand, under the numbers that its caller has given them.
class WorkerImages {
public:
    WorkerImages(const vmcow::CopyCosts& costs, vmcow::PageCount budget) : costs_(costs), budget_(budget) {}

    /// Takes in what the caller says about an image.
    /// Throws: std::system_error -- EMFILE, ENOMEM, EBADMSG.
    void learn(pipes::Message message);

    /// What the function gets for one argument.
    struct Prepared {
        std::byte* data = nullptr;
        std::uint64_t extent_bytes = 0;
        vmcow::ResidentView* view = nullptr;  ///< private: it may get pages of its own
        std::size_t capacity = 0;             ///< of a moved image: how far it can be written
    };
    /// Throws: std::system_error -- ENOMEM, EBADMSG (no such entry).
    [[nodiscard]] Prepared prepare(const ImageRequest& request, ImageReply& reply);

    /// After the function: the private view of an argument, nullptr for one that has none.
    [[nodiscard]] vmcow::ResidentView* view_of(const ImageRequest& request) noexcept;
    /// Whether a view is to be restored right after the reply: not if its content is likely to be the next call's
    /// image.
    [[nodiscard]] bool restore_now(const ImageRequest& request) const noexcept;
    /// The private pages of all views, and giving them back, those used longest ago first, until they are within the
    /// budget. What `request` has used stays.
    [[nodiscard]] vmcow::PageCount resident() const noexcept;
    void keep_to_budget(const Request& request) noexcept;
    /// Unmaps every image that was moved here.
    void let_go() noexcept;
    /// Whether everything is still mapped that a call could have unmapped: the private views of one request, or all
    /// that there is. Cost: 200 ns each.
    [[nodiscard]] bool are_mapped(const Request& request) noexcept;
    [[nodiscard]] bool are_mapped() const noexcept;

private:
    struct Entry {
        std::optional<vmcow::Snapshot> snapshot;
        std::vector<std::shared_ptr<const vmcow::Delta>> deltas;
        std::map<std::uint64_t, std::shared_ptr<const vmcow::ReadOnlyImage>> chunks;
        std::uint64_t address = 0;  // where the caller has it
        std::uint64_t used_at = 0;
        std::unique_ptr<vmcow::ResidentView> view;
        bool results_follow = true;  // what an apply has made of it is usually the next call's image
        std::unique_ptr<MovedImage> moved;
    };

    [[nodiscard]] std::shared_ptr<const vmcow::Delta> learn_delta(Entry& entry, const ImageLesson::DeltaLesson& lesson,
                                                                  pipes::Message& message, std::size_t& next_fd,
                                                                  vmcow::PageCount image_pages);
    Prepared prepare_view(Entry& entry, const ImageRequest& request, ImageReply& reply);

    vmcow::CopyCosts costs_;
    vmcow::PageCount budget_;
    std::array<Entry, kImageEntries> entries_;
    std::uint64_t clock_ = 0;
};

}  // namespace procrun::detail
