// A worker's reply becomes the result of its call. Nothing in the reply is trusted (I3).
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "procrun/limits/open_files_limit.hpp"
#include "procrun/worker/worker_handle.hpp"
#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// The alignment of a block for these bytes: the one in the heap's header, or without a heap the one that the value
/// had.
std::size_t block_alignment(const ImageArgument& image, std::span<const std::byte> bytes) noexcept {
    if (!image.grows) return image.sent->alignment();
    if (bytes.size() < sizeof(vmcow::detail::ValueHeader)) return vmcow::kPageBytes;
    return vmcow::detail::alignment_of(bytes.data());
}

}  // namespace

/// Takes the descriptors of a reply without waiting. A worker sends them before the reply, so they are in the socket; a
/// worker that has sent none must not keep its caller waiting.
std::vector<UniqueFd> WorkerHandle::take_fds(const Reply& reply) {
    if (reply.fd_count == 0) return {};
    pollfd readable{socket_.fd().get(), POLLIN, 0};
    std::optional<pipes::Message> message;
    if (::poll(&readable, 1, 0) > 0) message = socket_.receive();
    if (!message || message->fds.size() != reply.fd_count) {
        vmcow::sys::throw_error(EBADMSG, "take a result: its descriptors are missing");
    }
    return std::move(message->fds);
}

Payload WorkerHandle::payload_of(const Reply& reply, std::vector<UniqueFd>& fds) const {
    if (reply.payload == Where::file) return Payload::of_file(fds, reply.payload_bytes);
    if (reply.payload == Where::small && reply.payload_bytes <= kSmallBytes) {
        return Payload::of_small(std::span(reply.small).first(reply.payload_bytes));
    }
    if (reply.payload_bytes > kInlineBytes) {
        vmcow::sys::throw_error(EBADMSG, "take a result: it is longer than its channel");
    }
    const std::byte* const at = call_memory_->result();
    return Payload(std::vector<std::byte>(at, at + reply.payload_bytes));
}

void WorkerHandle::take_result(Reply& reply) {
    count(reply);
    std::vector<UniqueFd> fds = take_fds(reply);
    result_->payload.emplace(payload_of(reply, fds));
    const auto text = [&] {
        const std::span<const std::byte> bytes = result_->payload->bytes();
        return std::string(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kMostTextBytes));
    };
    switch (reply.kind) {
        case ReplyKind::returned: {
            const auto over =
                !watch_ ? std::nullopt
                        : watch_->exceeded_at_end(std::chrono::nanoseconds(reply.processor_ns), result_->cost.copied);
            if (over) return finish_with({OutcomeKind::limit_exceeded, 0, *over});
            take_changes(reply, fds);
            result_->fds = std::move(fds);
            return finish_with({OutcomeKind::returned, 0, {}});
        }
        case ReplyKind::threw:
            return finish_with({OutcomeKind::threw, 0, text()});
        case ReplyKind::out_of_descriptors:
            return finish_with(
                {OutcomeKind::limit_exceeded, EMFILE,
                 OpenFilesLimit::reason(call_->options.limits.open_files.value_or(0)) + " (" + text() + ")"});
        case ReplyKind::failed: {
            const bool ran = reply.step >= CallStep::running;
            end(kMoment);  // its images may not be those that `known_images_` remembers
            // An earlier function has closed the worker's descriptors or used them up: this call has not run, and
            // another worker can run it.
            const bool unseen = !ran && (reply.error == EBADF || reply.error == EMFILE || reply.error == ENOTSOCK);
            if (unseen) delivery_ = Delivery::call_was_missed;
            return finish_with({ran ? OutcomeKind::result_lost : OutcomeKind::not_started, reply.error,
                                std::string("function process ") + describe(reply.step)});
        }
    }
    vmcow::sys::throw_error(EBADMSG, "take a result: it is of no known kind");
}

/// An image's extent after a call, as its worker says: from the `before` bytes that it had to the `most` that it may
/// have.
/// Throws: std::system_error -- EBADMSG: the extent lies outside of these (I3).
std::uint64_t WorkerHandle::checked_extent(std::uint64_t said, std::uint64_t before, std::uint64_t most) {
    if (said >= before && said <= most) return said;
    vmcow::sys::throw_error(EBADMSG, "take changed pages: the image cannot have become so long");
}

/// The snapshot that `apply` has made of `before`. Checks all that the worker has said (I3).
/// Throws: std::system_error -- EBADMSG.
vmcow::Snapshot WorkerHandle::changed_snapshot(const vmcow::Snapshot& before, const ImageReply& said,
                                               ChangesRead& read) const {
    const std::uint64_t extent_bytes = said.extent_bytes;
    if (said.changes == Where::nowhere && extent_bytes == before.extent_bytes()) return before;
    const vmcow::Layers& layers = *before.layers();
    const vmcow::PageCount count{said.changes == Where::nowhere ? 0 : said.change_count};
    const vmcow::PageCount image_pages =
        std::max(vmcow::pages_of(layers.mapped_bytes()), vmcow::pages_of(extent_bytes));
    if (said.changes == Where::file) {
        if (read.files.empty()) vmcow::sys::throw_error(EBADMSG, "take changed pages: no descriptor");
        const auto delta = vmcow::Delta::adopt(std::move(read.files.front()), count, image_pages);
        read.files = read.files.subspan(1);
        return vmcow::Snapshot(layers.with_delta(delta, extent_bytes));
    }
    if (count > kOutboxPages || count > image_pages || read.outbox_pages + count > kOutboxPages) {
        vmcow::sys::throw_error(EBADMSG, "take changed pages: more than there can be");
    }
    const std::byte* const outbox = call_memory_->outbox() + read.outbox_pages.bytes();
    const std::byte* const table = call_memory_->outbox_table() + read.outbox_pages.value * sizeof(vmcow::PageIndex);
    const auto pages = vmcow::Delta::checked_table(table, count, image_pages);
    read.outbox_pages += count;
    return vmcow::Snapshot(layers.with_changes(
        pages, [&](std::size_t i) { return outbox + i * vmcow::kPageBytes; }, vmcow::Delta::stored_copy_of,
        extent_bytes));
}

/// Takes a value that was sent: all of its bytes, if they have changed. Checks all that the worker has said (I3).
/// Throws: std::system_error -- EBADMSG.
void WorkerHandle::take_sent(const ImageArgument& image, const ImageReply& said, ChangesRead& read,
                             ChangedImage& changed) const {
    if (said.changes == Where::nowhere) {
        changed.as_it_was = image.sent;
        return;
    }
    const std::uint64_t before = image.sent->extent_bytes();
    const std::uint64_t extent = checked_extent(said.extent_bytes, before, before + (image.grows ? kGrowthRoom : 0));
    if (said.changes == Where::file) {
        if (read.files.empty()) vmcow::sys::throw_error(EBADMSG, "take a changed value: no descriptor");
        vmcow::SnapshotParts parts;
        parts.base = std::move(read.files.front());
        parts.extent_bytes = extent;
        read.files = read.files.subspan(1);
        changed.applied.emplace(vmcow::Snapshot::adopt(std::move(parts), "value"));
        return;
    }
    if (said.sent_at < kSentOffset || said.sent_at > kInlineBytes || extent > kInlineBytes - said.sent_at) {
        vmcow::sys::throw_error(EBADMSG, "take a changed value: it does not lie in the call memory");
    }
    const std::span<const std::byte> bytes(call_memory_->result() + said.sent_at, extent);
    changed.block = vmcow::ValueBlock(bytes, block_alignment(image, bytes));
}

void WorkerHandle::take_changes(Reply& reply, std::vector<UniqueFd>& fds) {
    const auto said = std::span(reply.images).first(call_->images.size());
    std::size_t files = 0;
    for (std::size_t i = 0; i < said.size(); ++i) {
        if (call_->images[i].mode == ImageMode::apply && said[i].changes == Where::file) ++files;
    }
    if (files > fds.size()) vmcow::sys::throw_error(EBADMSG, "take changed pages: no descriptor");
    ChangesRead read{std::span(fds).last(files), {}};  // the result's own descriptors come first
    for (std::size_t i = 0; i < said.size(); ++i) {
        ImageArgument& image = call_->images[i];
        if (image.mode == ImageMode::apply && image.is_sent()) {
            take_sent(image, said[i], read, result_->changed.emplace_back());
        } else if (image.mode == ImageMode::apply) {
            VMCOW_ASSERT(image.snapshot && "I2: the result of an apply outlives the call, so it stands on a snapshot");
            const std::uint64_t before = image.snapshot->extent_bytes();
            said[i].extent_bytes =
                checked_extent(said[i].extent_bytes, before, before + (image.grows ? kGrowthRoom : 0));
            ChangedImage& changed = result_->changed.emplace_back();
            changed.applied.emplace(changed_snapshot(*image.snapshot, said[i], read));
            changed.part = image.part;
            known_images_.note_result(entries_[i], *changed.applied);
        } else if (image.mode == ImageMode::moved) {
            const std::uint64_t before = image.moved->extent_bytes();
            const std::uint64_t most = image.grows ? vmcow::ArenaAccess::mapped_bytes(*image.moved) : before;
            vmcow::ArenaAccess::set_extent(*image.moved, checked_extent(said[i].extent_bytes, before, most));
            result_->changed.emplace_back().moved_back = std::move(image.moved);
        }
    }
    fds.resize(fds.size() - files);
}

}  // namespace procrun::detail
