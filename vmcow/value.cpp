#include "vmcow/value.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow::detail {
namespace {

/// What a value begins with. The heap writes at both of its ends when memory is taken: a small value is one page, so
/// that a change of it copies one.
constexpr std::size_t kFirstBytes = kPageBytes;

}  // namespace

void begin_image(Arena& arena, std::uint64_t type) {
    std::byte* const at = arena.allocate_sparse(kFirstBytes, alignof(ValueHeader));
    new (at) ValueHeader{.type = type};
    ImageHeap::make_in(at + sizeof(ValueHeader), kFirstBytes - sizeof(ValueHeader));
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

}  // namespace vmcow::detail
