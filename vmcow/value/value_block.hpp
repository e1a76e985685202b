#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "vmcow/snapshot.hpp"

namespace vmcow {

class StoredPages;

/// The bytes of a value that is too small for a file of its own: ordinary memory, in the form of an image. Up to 2 KiB
/// come from operator new; more are pages of the store, of which a snapshot needs no copy.
///
///     bytes()   |--- what the value is ---|-- capacity --|
///
/// Cost:       no descriptor and no mapping. Overhead: 16 bytes for memory from operator new, the rest of the last page
///             for stored pages.
/// Threads:    one at a time.
/// After fork: a function process has its own copy, of memory from operator new and of stored pages.
class ValueBlock {
public:
    static constexpr std::size_t kLargest = std::size_t{2} << 20;
    /// The alignment of memory from operator new: a value that needs a stricter one lies in the store or in a file.
    static constexpr std::size_t kPlainAlignment = 16;

    ValueBlock() noexcept;
    /// `bytes` zeroed bytes, with room for `capacity` if that is more.
    /// Pre:    `bytes` and `capacity` are at most kLargest, `alignment` at most kPageBytes.
    /// Throws: std::bad_alloc; std::system_error -- EMFILE, ENOMEM.
    ValueBlock(std::size_t bytes, std::size_t alignment, std::size_t capacity = 0);
    /// A copy of `bytes`. Pre, Throws: as the constructor of zeroed bytes.
    ValueBlock(std::span<const std::byte> bytes, std::size_t alignment);
    ValueBlock(ValueBlock&& other) noexcept;
    ValueBlock& operator=(ValueBlock&& other) noexcept;
    ~ValueBlock();

    [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, bytes_}; }
    /// The alignment that a copy of the block needs.
    [[nodiscard]] std::size_t alignment() const noexcept { return stored_ != nullptr ? kPageBytes : kPlainAlignment; }
    /// The pages of the store in which the block lies; nullptr for memory from operator new.
    [[nodiscard]] const StoredPages* stored() const noexcept { return stored_.get(); }

    /// Makes the block longer, with zeros; its bytes may move.
    /// Pre:    `bytes` is at least size() and at most kLargest.
    /// Throws: as the constructor; the block is as before.
    void resize(std::size_t bytes);

    /// The bytes as an image. Stored pages become the image without a copy, and the block is empty then. Memory from
    /// operator new is copied, as are stored pages that are not writable, and the block goes on.
    /// Throws: as the constructor; the block is as before.
    [[nodiscard]] Snapshot freeze(const std::string& name);

private:
    [[nodiscard]] static std::size_t capacity_for(std::size_t bytes) noexcept;
    void release() noexcept;

    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t capacity_ = 0;
    std::unique_ptr<StoredPages> stored_;
};

/// An image of pages of the store, `extent_bytes` long.
/// Pre: nobody writes to the pages any more; the bytes behind the extent are zero.
[[nodiscard]] Snapshot stored_image(StoredPages pages, std::uint64_t extent_bytes, const std::string& name);

}  // namespace vmcow
