#include "vmcow/file/image_writer.hpp"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <span>
#include <system_error>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace vmcow {
namespace {

constexpr std::uint64_t kBlockPages = kImageBlockBytes / kPageBytes;

alignas(kPageBytes) constexpr std::array<std::byte, kPageBytes> kZeros{};

/// The pages of one block, each with whether it has to be written.
class Block {
public:
    Block(StoredContent& content, std::uint64_t index)
        : first_(index * kBlockPages), count_(std::min(kBlockPages, content.pages().value - first_)) {
        for (std::uint64_t i = 0; i < count_; ++i) pages_[i] = content.page(first_ + i);
    }

    [[nodiscard]] std::uint64_t checksum() const {
        if (is_hole()) return checksum_of_zeros();
        Hash hash;
        add_to(hash);
        return hash.digest();
    }

    /// Makes one write for each run of pages that the file does not have yet.
    void write_to(FileWriter& writer, std::uint64_t stored_offset) const {
        std::vector<iovec> pieces;
        std::uint64_t begin = 0;
        for (std::uint64_t i = 0; i <= count_; ++i) {
            const bool wanted = i < count_ && pages_[i].write;
            if (wanted && pieces.empty()) begin = i;
            if (wanted) append(pieces, pages_[i].bytes);
            if (wanted || pieces.empty()) continue;
            writer.write(std::exchange(pieces, {}), stored_offset + (first_ + begin) * kPageBytes);
        }
    }

private:
    class Hash {
    public:
        Hash() : state_(::XXH3_createState()) {
            if (state_ == nullptr) throw std::bad_alloc();
            (void)::XXH3_64bits_reset(state_);
        }
        ~Hash() { (void)::XXH3_freeState(state_); }
        Hash(const Hash&) = delete;
        Hash& operator=(const Hash&) = delete;

        void add(const void* bytes, std::size_t count) noexcept { (void)::XXH3_64bits_update(state_, bytes, count); }
        [[nodiscard]] std::uint64_t digest() const noexcept { return ::XXH3_64bits_digest(state_); }

    private:
        XXH3_state_t* state_;
    };

    static void append(std::vector<iovec>& pieces, const std::byte* page) {
        // The kernel only reads what an iovec for writing points to.
        auto* const bytes = const_cast<std::byte*>(page);
        if (!pieces.empty() && static_cast<std::byte*>(pieces.back().iov_base) + pieces.back().iov_len == bytes) {
            pieces.back().iov_len += kPageBytes;
        } else {
            pieces.push_back({bytes, kPageBytes});
        }
    }

    void add_to(Hash& hash) const {
        std::vector<iovec> pieces;
        for (std::uint64_t i = 0; i < count_; ++i) append(pieces, pages_[i].bytes);
        for (const iovec& piece : pieces) hash.add(piece.iov_base, piece.iov_len);
    }

    [[nodiscard]] bool is_hole() const noexcept {
        return count_ == kBlockPages && std::all_of(pages_.begin(), pages_.end(),
                                                    [](const StoredPage& page) { return page.bytes == kZeros.data(); });
    }

    static std::uint64_t checksum_of_zeros() {
        static const std::uint64_t checksum = image_checksum(std::vector<std::byte>(kImageBlockBytes));
        return checksum;
    }

    std::array<StoredPage, kBlockPages> pages_{};
    std::uint64_t first_;
    std::uint64_t count_;
};

/// Calls `body` with a ring, in a thread of its own. Returns 0, or the errno with which the ring was refused.
int with_ring(const std::function<void(sys::IoRing&)>& body) {
    int refused = 0;
    std::exception_ptr failure;
    const auto run = [&] {
        std::optional<sys::IoRing> ring;
        try {
            ring.emplace();
        } catch (const std::system_error& error) {
            refused = error.code().value();
            return;
        }
        try {
            body(*ring);
        } catch (...) {
            failure = std::current_exception();
        }
    };
    try {
        sys::start_without_signals(run).join();
    } catch (const std::system_error& error) {
        return error.code().value();
    }
    if (failure) std::rethrow_exception(failure);
    return refused;
}

iovec piece_of(std::span<const std::byte> bytes) noexcept {
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace

const std::byte* zero_page() noexcept { return kZeros.data(); }

bool is_zero_page(const std::byte* page) noexcept {
    return page == kZeros.data() || std::memcmp(page, kZeros.data(), kPageBytes) == 0;
}

void FileWriter::write(std::vector<iovec> pieces, std::uint64_t offset) {
    for (const iovec& piece : pieces) written_bytes_ += piece.iov_len;
    if (ring_ != nullptr) {
        ring_->write(fd_, std::move(pieces), offset);
    } else {
        sys::write_pieces(fd_, std::move(pieces), offset);
    }
}

void FileWriter::finish(bool sync) {
    if (ring_ != nullptr) {
        ring_->drain();
        if (sync) ring_->sync(fd_);
    } else if (sync && ::fsync(fd_) != 0) {
        sys::throw_errno("fsync");
    }
}

WriterUsed with_file_writer(int fd, ImageIo io, const std::function<void(FileWriter&)>& body) {
    WriterUsed used{ImageIo::io_uring, 0};
    if (io != ImageIo::write_calls) {
        used.io_uring_error = with_ring([&](sys::IoRing& ring) {
            FileWriter writer(fd, &ring);
            body(writer);
        });
        if (used.io_uring_error == 0) return used;
        if (io == ImageIo::io_uring) sys::throw_error(used.io_uring_error, "set up an io_uring");
    }
    used.io = ImageIo::write_calls;
    FileWriter writer(fd, nullptr);
    body(writer);
    return used;
}

void write_image_file(FileWriter& writer, StoredContent& content, ImageFileHeader header, ImageFileTables tables,
                      bool sync, SaveControl& control) {
    header.block_bytes = kImageBlockBytes;
    header.stored_offset = kPageBytes;
    header.stored_bytes = content.pages().bytes();
    const std::uint64_t blocks = (content.pages().value + kBlockPages - 1) / kBlockPages;
    tables.checksums.resize(blocks);
    control.begin(content.pages());
    for (std::uint64_t i = 0; i < blocks; ++i) {
        control.note_done({i * kBlockPages});
        if (const auto known = content.finished_block(i)) {
            tables.checksums[i] = *known;
            continue;
        }
        const Block block(content, i);
        tables.checksums[i] = block.checksum();
        block.write_to(writer, header.stored_offset);
    }
    const std::vector<std::byte> table_bytes = encode_tables(tables);
    header.tables_offset = header.stored_offset + header.stored_bytes;
    header.tables_bytes = table_bytes.size();
    header.tables_checksum = image_checksum(table_bytes);
    header.run_count = tables.runs.size();
    header.name_bytes = static_cast<std::uint32_t>(tables.name.size());
    header.base_path_bytes = static_cast<std::uint32_t>(tables.base_path.size());
    const ImageFileHeaderPage page = encode_header(header);
    writer.write({piece_of(table_bytes)}, header.tables_offset);
    writer.write({piece_of(page)}, 0);
    writer.finish(sync);
    control.note_done(content.pages());
}

}  // namespace vmcow
