// Tests that damaged, truncated, foreign and forged image files are refused with a reason.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "tests/vmcow/file/saved_images.hpp"
#include "vmcow/file/image_file_format.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow {
namespace {

namespace fs = std::filesystem;

using tests::contains;
using tests::error_of;
using tests::kFast;
using tests::message_of;
using tests::noise;
using tests::same_bytes;
using tests::snapshot_of;
using tests::TemporaryDirectory;

std::vector<std::byte> read_file(const std::string& path) {
    std::vector<std::byte> bytes(fs::file_size(path));
    const sys::UniqueFd fd = sys::open_file(path, O_RDONLY);
    EXPECT_EQ(bytes.size(), sys::read_full(fd.get(), bytes, path));
    return bytes;
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
    const sys::UniqueFd fd = sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    sys::write_all(fd.get(), bytes, path);
}

void write_text(const std::string& path, const std::string& text) { write_file(path, std::as_bytes(std::span(text))); }

/// Two files and the snapshots in them: a whole image of three pages, and a delta file of two pages.
class ImageDamageTest : public testing::Test {
protected:
    ImageDamageTest() {
        View view = snapshot_.map_private();
        tests::write_pages(view, {0, 2}, std::byte{1});
        relative_ = std::make_unique<Snapshot>(view.capture());
        (void)save_image(snapshot_, base_, kFast);
        (void)save_image(*relative_, delta_, {.relative_to = base_, .sync = false});
    }

    [[nodiscard]] std::string refusal(const std::string& path) const {
        const auto load = [&] { (void)load_image(path); };
        EXPECT_EQ(EBADMSG, error_of(load)) << path;
        std::string message = message_of(load);
        EXPECT_TRUE(contains(message, path)) << message;
        return message;
    }

    TemporaryDirectory directory_;
    std::string base_ = directory_ / "base";
    std::string delta_ = directory_ / "delta";
    Snapshot snapshot_ = snapshot_of(noise(3 * kPageBytes - 7));
    std::unique_ptr<Snapshot> relative_;
};

TEST_F(ImageDamageTest, EveryFlippedBitIsFound) {
    for (const std::string& path : {base_, delta_}) {
        const std::vector<std::byte> whole = read_file(path);
        const sys::UniqueFd fd = sys::open_file(path, O_WRONLY);
        for (std::size_t i = 0; i < whole.size(); ++i) {
            const std::byte flipped = whole[i] ^ static_cast<std::byte>(1U << (i % 8));
            ASSERT_EQ(1, ::pwrite(fd.get(), &flipped, 1, static_cast<off_t>(i)));
            ASSERT_EQ(EBADMSG, error_of([&] { (void)load_image(path); })) << path << " at " << i;
            ASSERT_EQ(1, ::pwrite(fd.get(), &whole[i], 1, static_cast<off_t>(i)));
        }
    }
    EXPECT_TRUE(same_bytes(relative_->bytes(), load_image(delta_).snapshot.bytes()));
}

TEST_F(ImageDamageTest, EveryTruncationIsFoundAndSaysHowMuchIsMissing) {
    for (const std::string& path : {base_, delta_}) {
        const std::size_t bytes = fs::file_size(path);
        for (std::size_t kept = bytes - 1; kept > 0; kept -= kept > 5000 ? 101 : 1) {
            fs::resize_file(path, kept);
            const std::string message = refusal(path);
            const std::size_t missing = (kept < kPageBytes ? kPageBytes : bytes) - kept;
            ASSERT_TRUE(contains(message, "truncated")) << message;
            ASSERT_TRUE(contains(message, fmt::format(" {} bytes are missing", missing))) << message;
        }
        fs::resize_file(path, 0);
        EXPECT_TRUE(contains(refusal(path), "not an image file: it is empty"));
    }
}

TEST_F(ImageDamageTest, BytesBehindTheEndAreFound) {
    fs::resize_file(base_, fs::file_size(base_) + 5);
    EXPECT_TRUE(contains(refusal(base_), "5 bytes behind its end"));
}

TEST_F(ImageDamageTest, ForeignFileIsNoImageFile) {
    const std::string path = directory_ / "foreign";
    for (const std::string& text : {std::string("text"), std::string(10000, 'x'), std::string(10000, '\0')}) {
        write_text(path, text);
        EXPECT_TRUE(contains(refusal(path), "not an image file"));
    }
    ASSERT_EQ(0, ::mkfifo((directory_ / "pipe").c_str(), 0600));
    EXPECT_TRUE(contains(refusal(directory_ / "pipe"), "not a regular file"));
    EXPECT_TRUE(contains(refusal("/dev/zero"), "not a regular file"));
    EXPECT_EQ(EISDIR, error_of([&] { (void)load_image(directory_.path()); }));
    EXPECT_EQ(ENOENT, error_of([&] { (void)load_image(directory_ / "none"); }));
    EXPECT_EQ(ENOENT, error_of([&] { (void)load_image(""); }));
}

TEST_F(ImageDamageTest, NewerFileSaysWhichVersionItHas) {
    std::vector<std::byte> bytes = read_file(base_);
    const std::uint32_t version = 7;
    std::memcpy(&bytes[offsetof(ImageFileHeader, version)], &version, sizeof(version));
    write_file(base_, bytes);
    EXPECT_TRUE(contains(refusal(base_), "its format is version 7, this build reads version 1: a newer build"));
}

/// The image is larger than kVerifiedBytes, so that loading verifies its content only on request.
TEST_F(ImageDamageTest, BadBlockOfALargeImageIsFoundOnRequest) {
    Arena arena;
    arena.allocate_sparse(kVerifiedBytes + kPageBytes);
    const Snapshot large = std::move(arena).freeze();
    (void)save_image(large, base_, kFast);
    EXPECT_FALSE(verify_image(base_));
    const std::uint64_t at = kPageBytes + 5 * kImageBlockBytes + 17;
    {
        const sys::UniqueFd fd = sys::open_file(base_, O_WRONLY);
        ASSERT_EQ(1, ::pwrite(fd.get(), "x", 1, static_cast<off_t>(at)));
    }
    EXPECT_FALSE(load_image(base_).content_verified);
    const auto load = [&] { (void)load_image(base_, {.verify = Verify::content}); };
    EXPECT_EQ(EBADMSG, error_of(load));
    EXPECT_TRUE(contains(message_of(load), fmt::format("from offset {}", at - 17))) << message_of(load);
    const auto bad = verify_image(base_);
    ASSERT_TRUE(bad);
    EXPECT_EQ(at - 17, bad->file_offset);
    EXPECT_EQ(kImageBlockBytes, bad->bytes);
    EXPECT_EQ(base_, bad->path);
}

TEST_F(ImageDamageTest, BadBlockOfTheFileBelowIsFound) {
    std::vector<std::byte> bytes = read_file(base_);
    bytes[2 * kPageBytes] ^= std::byte{1};
    write_file(base_, bytes);
    EXPECT_TRUE(contains(message_of([&] { (void)load_image(delta_); }), base_));
    const auto bad = verify_image(delta_);
    ASSERT_TRUE(bad);
    EXPECT_EQ(base_, bad->path);
}

/// Writes `path` again with changed numbers, and with checksums that match them.
void forge(const std::string& path, const std::function<void(ImageFileHeader&, ImageFileTables&)>& change) {
    const ImageFile file(path);
    ImageFileHeader header = file.header();
    ImageFileTables tables = file.tables();
    std::vector<std::byte> bytes = read_file(path);
    bytes.resize(header.tables_offset);
    const ImageFileHeader before = header;
    change(header, tables);
    const std::vector<std::byte> encoded = encode_tables(tables);
    header.tables_checksum = image_checksum(encoded);
    if (header.tables_bytes == before.tables_bytes) header.tables_bytes = encoded.size();
    if (header.run_count == before.run_count) header.run_count = tables.runs.size();
    if (header.base_path_bytes == before.base_path_bytes) {
        header.base_path_bytes = static_cast<std::uint32_t>(tables.base_path.size());
    }
    bytes.insert(bytes.end(), encoded.begin(), encoded.end());
    const ImageFileHeaderPage page = encode_header(header);
    std::memcpy(bytes.data(), page.data(), page.size());
    write_file(path, bytes);
}

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

/// Each number is refused, or it does no harm: every byte of the loaded image can be read.
TEST_F(ImageDamageTest, NoNumberOfTheHeaderIsTrusted) {
    const std::vector<std::uint64_t ImageFileHeader::*> fields{
        &ImageFileHeader::extent_bytes, &ImageFileHeader::block_bytes,   &ImageFileHeader::stored_offset,
        &ImageFileHeader::stored_bytes, &ImageFileHeader::tables_offset, &ImageFileHeader::tables_bytes,
        &ImageFileHeader::run_count,    &ImageFileHeader::depth};
    const std::vector<std::uint64_t> numbers{
        0,          1,          2,          4095,      4096,         4097,
        8192,       12288,      16384,      262144,    1ULL << 40,   (1ULL << 47) - 1,
        1ULL << 47, 1ULL << 61, 1ULL << 63, kMost - 8, kMost - 4095, kMost};
    for (const std::string& path : {base_, delta_}) {
        const std::vector<std::byte> whole = read_file(path);
        for (const auto field : fields) {
            for (const std::uint64_t number : numbers) {
                forge(path, [&](ImageFileHeader& header, ImageFileTables&) { header.*field = number; });
                const int error = error_of([&] {
                    const LoadedImage loaded = load_image(path);
                    // A delta file may claim any larger size for its image.
                    if (loaded.snapshot.extent_bytes() > kImageBlockBytes) return;
                    EXPECT_EQ(loaded.snapshot.extent_bytes(), tests::copy_of(loaded.snapshot.bytes()).size());
                });
                EXPECT_TRUE(error == 0 || error == EBADMSG) << error << " for " << number;
                write_file(path, whole);
            }
        }
    }
}

TEST_F(ImageDamageTest, NoRunIsTrusted) {
    const std::vector<std::vector<PageRun>> forged{{{{0}, {2}}, {{1}, {0}}},
                                                   {{{2}, {1}}, {{0}, {1}}},
                                                   {{{0}, {1}}, {{0}, {1}}},
                                                   {{{2}, {2}}},
                                                   {{{3}, {2}}},
                                                   {{{kMost}, {2}}},
                                                   {{{1}, {kMost}}, {{2}, {1}}},
                                                   {{{0}, {3}}},
                                                   {{{0}, {1}}},
                                                   {{{kMost - 1}, {1}}, {{0}, {1}}},
                                                   {{{0}, {1}}, {{2}, {kMost - 1}}},
                                                   {}};
    const std::vector<std::byte> whole = read_file(delta_);
    for (std::size_t i = 0; i < forged.size(); ++i) {
        forge(delta_, [&](ImageFileHeader&, ImageFileTables& tables) { tables.runs = forged[i]; });
        EXPECT_TRUE(contains(refusal(delta_), "its runs")) << i;
        write_file(delta_, whole);
    }
}

TEST_F(ImageDamageTest, PageSizeOfAnotherMachineIsRefused) {
    forge(base_, [](ImageFileHeader& header, ImageFileTables&) { header.page_bytes = 16384; });
    EXPECT_TRUE(contains(refusal(base_), "pages of 16384 bytes"));
}

TEST_F(ImageDamageTest, FilesThatStandOnEachOtherInACircleAreRefused) {
    // Two files that refer to each other cannot both have right checksums, but a depth can be forged.
    forge(delta_, [](ImageFileHeader& header, ImageFileTables&) { header.depth = 2; });
    const std::string message = refusal(delta_);
    EXPECT_TRUE(contains(message, base_) && contains(message, "which is not below it")) << message;
    forge(delta_, [](ImageFileHeader& header, ImageFileTables& tables) {
        header.depth = 1;
        tables.base_path = "delta";
    });
    EXPECT_TRUE(contains(refusal(delta_), "not the file that it was saved relative to"));
}

TEST_F(ImageDamageTest, FileBelowMayBeNothingThatWouldMakeUsWait) {
    ASSERT_EQ(0, ::mkfifo((directory_ / "pipe").c_str(), 0600));
    forge(delta_, [](ImageFileHeader&, ImageFileTables& tables) { tables.base_path = "pipe"; });
    EXPECT_TRUE(contains(refusal(delta_), "not a regular file"));
}

TEST_F(ImageDamageTest, FileBelowWithALongerImageIsRefused) {
    forge(delta_, [](ImageFileHeader& header, ImageFileTables&) { header.extent_bytes = 2 * kPageBytes + 1; });
    EXPECT_TRUE(contains(refusal(delta_), "whose image is longer"));
}

}  // namespace
}  // namespace vmcow
