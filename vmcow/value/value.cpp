#include "vmcow/value.hpp"

#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value/edit_room.hpp"

namespace vmcow::detail {
namespace {

/// The first size of a value with a heap. The heap writes at both of its ends when memory is taken: a small value is
/// one page, so that a change of it copies one page.
constexpr std::size_t kFirstBytes = kPageBytes;
/// The first size of such a value in an EditRoom, where it grows in smaller steps.
constexpr std::size_t kFirstInRoom = 1024;

}  // namespace

void begin_image(std::byte* image, std::size_t bytes, std::uint64_t type) {
    VMCOW_ASSERT(bytes >= sizeof(ValueHeader) + ImageHeap::kLeastBytes && "a header and a heap fit");
    new (image) ValueHeader{.type = type, .alignment = ValueBlock::kPlainAlignment};
    ImageHeap::make_in(image + sizeof(ValueHeader), bytes - sizeof(ValueHeader));
}

std::unique_ptr<ValueImage> new_heap_image(const ValueOptions& options, std::uint64_t type) {
    if (options.allow_block()) {
        std::unique_ptr<EditRoom> room = EditRoom::take();
        begin_image(room->data(), kFirstInRoom, type);
        return std::make_unique<ValueImage>(std::move(room), kFirstInRoom, options);
    }
    Arena arena({.name = options.name, .reserve_bytes = options.reserve_bytes});
    begin_image(arena.allocate_sparse(kFirstBytes, alignof(ValueHeader)), kFirstBytes, type);
    return std::make_unique<ValueImage>(std::move(arena), options, ValueImage::Form::heap);
}

std::unique_ptr<ValueImage> new_array_image(std::size_t count, std::size_t each, std::size_t alignment,
                                            const ValueOptions& options) {
    const bool fits = count <= ValueBlock::kLargest / each && alignment <= kPageBytes;
    if (options.allow_block() && fits) {
        return std::make_unique<ValueImage>(ValueBlock(count * each, alignment), options, alignment);
    }
    Arena arena({.name = options.name, .reserve_bytes = options.reserve_bytes});
    if (count > std::numeric_limits<std::size_t>::max() / each) throw std::bad_array_new_length();
    static_cast<void>(arena.allocate(count * each, alignment));
    return std::make_unique<ValueImage>(std::move(arena), options, ValueImage::Form::fixed);
}

void check_type(const std::filesystem::path& path, std::uint64_t found, std::uint64_t wanted) {
    if (found == 0 || found == wanted) return;
    sys::throw_error(EBADMSG, "load '" + path.string() + "': it holds a value of another type");
}

void refuse_size(std::uint64_t extent_bytes, std::size_t each) {
    sys::throw_error(EBADMSG, "take an image for a value: its " + std::to_string(extent_bytes) +
                                  " bytes do not fit objects of " + std::to_string(each));
}

void check_object(const std::byte* first_page, std::uint64_t extent_bytes, std::uint64_t type, std::size_t bytes,
                  std::size_t alignment) {
    const auto refuse = [&](const std::string& what) {
        sys::throw_error(EBADMSG, "take an image for a value: " + what);
    };
    ValueHeader header;
    if (extent_bytes < sizeof(header) + ImageHeap::kLeastBytes) {
        refuse("it has " + std::to_string(extent_bytes) + " bytes, which is too few");
    }
    std::memcpy(&header, first_page, sizeof(header));
    if (header.magic != ValueHeader::kMagic) refuse("it was not made as one");
    if (header.type != type) refuse("it is of another type");
    const bool fits = header.object >= sizeof(header) && header.object % alignment == 0 &&
                      header.object < extent_bytes && bytes <= extent_bytes - header.object;
    if (!fits) refuse("its object lies outside of it");
    const auto* const heap = reinterpret_cast<const ImageHeap*>(first_page + sizeof(header));
    if (heap->bytes() > extent_bytes - sizeof(header)) refuse("its heap is longer than it");
}

void check_member(const std::byte* first_page, std::uint64_t extent_bytes, std::uint64_t type, std::uint64_t offset,
                  std::size_t bytes, std::size_t alignment) {
    check_object(first_page, extent_bytes, type, 1, 1);
    const bool fits = offset >= sizeof(ValueHeader) && offset % alignment == 0 && offset < extent_bytes &&
                      bytes <= extent_bytes - offset;
    if (!fits) sys::throw_error(EBADMSG, "take an image for a value: its member lies outside of it");
}

std::uint64_t offset_in(std::span<const std::byte> image, std::span<const std::byte> object) {
    const auto offset =
        reinterpret_cast<std::uintptr_t>(object.data()) - reinterpret_cast<std::uintptr_t>(image.data());
    if (offset < image.size() && object.size() <= image.size() - offset) return offset;
    throw std::out_of_range("a member of " + std::to_string(object.size()) + " bytes does not lie in its value");
}

}  // namespace vmcow::detail
