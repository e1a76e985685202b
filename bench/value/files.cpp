#include "bench/value/files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "vmcow/image_file.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace bench {
namespace {

namespace fs = std::filesystem;

using vmcow::sys::open_file;
using vmcow::sys::throw_errno;
using vmcow::sys::UniqueFd;

constexpr std::size_t kChangedPages = 4096;
constexpr std::size_t kPiece = std::size_t{1} << 20;

/// A new folder beside this program, where the file system is on a disk rather than in memory.
class Folder {
public:
    Folder() {
        std::string name = (fs::read_symlink("/proc/self/exe").parent_path() / "value_bench.files.XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw_errno("make folder '" + name + "'");
        path_ = name;
        fd_ = open_file(path_, O_RDONLY | O_DIRECTORY);
    }
    ~Folder() {
        std::error_code ignored;  // a destructor must not throw: what cannot be removed stays
        fs::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    [[nodiscard]] fs::path file(const char* name) const { return path_ / name; }
    /// Removes a file, and waits until everything written so far is on the disk.
    void settle(const fs::path& file) const {
        fs::remove(file);
        if (::syncfs(fd_.get()) != 0) throw_errno("syncfs");
    }

private:
    fs::path path_;
    UniqueFd fd_;
};

/// The folder, and the base as a file in it. Both are made when the first row needs them.
class Files {
public:
    [[nodiscard]] const Folder& folder() const noexcept { return folder_; }
    /// Saves the base at the first call. Returns its path.
    const fs::path& saved(const Bytes& base) {
        if (base_path_.empty()) {
            base.save(folder_.file("base"));
            base_path_ = folder_.file("base");
        }
        return base_path_;
    }

private:
    Folder folder_;
    fs::path base_path_;
};

std::unique_ptr<Files> opened;

Files& files() {
    if (!opened) opened = std::make_unique<Files>();
    return *opened;
}

// ---- what was changed

void save_delta(benchmark::State& state, bool& warm, const Bytes& base, bool sync) {
    const fs::path below = files().saved(base);
    const fs::path path = files().folder().file("delta");
    const std::vector<std::size_t> offsets = scattered_offsets(base.size(), kChangedPages);
    std::uint64_t word = 0;
    vmcow::SaveReport report;
    measure(state, warm, [&] {
        Bytes value = base;
        value.edit([&](std::span<std::byte> bytes) { write_words(bytes.data(), offsets, ++word); });
        files().folder().settle(path);
        return seconds_of([&] { report = value.save(path, {.relative_to = below, .sync = sync}); });
    });
    expect(report.stored.value == offsets.size(), "not every page was saved");
    const Bytes loaded = Bytes::load(path, {.verify = vmcow::Verify::content});
    for (const std::size_t offset : offsets) expect(word_at(&loaded[offset]) == word, "a change is missing");
    if (report.io != vmcow::ImageIo::io_uring) state.SetLabel("write calls: no io_uring here");
    files().folder().settle(path);
}

/// A buffer of as many pages as were changed in the value. A program without the library has to know which these are.
std::vector<std::byte> changed_pages(std::size_t value_bytes) {
    std::vector<std::size_t> offsets = scattered_offsets(value_bytes, kChangedPages);
    for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = i * vmcow::kPageBytes + kTouched % vmcow::kPageBytes;
    std::vector<std::byte> pages = filled_heap(offsets.size() * vmcow::kPageBytes);
    write_words(pages.data(), offsets, 1);
    return pages;
}

void write_changed(benchmark::State& state, bool& warm, std::size_t value_bytes, bool sync) {
    const fs::path path = files().folder().file("changed");
    const std::vector<std::byte> pages = changed_pages(value_bytes);
    measure(state, warm, [&] {
        files().folder().settle(path);
        return seconds_of([&] {
            const UniqueFd file = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
            for (std::size_t at = 0; at < pages.size(); at += vmcow::kPageBytes) {
                const ssize_t written =
                    ::pwrite(file.get(), pages.data() + at, vmcow::kPageBytes, static_cast<off_t>(at));
                if (written != static_cast<ssize_t>(vmcow::kPageBytes)) throw_errno("pwrite");
            }
            if (sync && ::fsync(file.get()) != 0) throw_errno("fsync");
        });
    });
    expect(fs::file_size(path) == pages.size(), "not every page was written");
    files().folder().settle(path);
}

// ---- the whole

void save_whole(benchmark::State& state, bool& warm, const Bytes& base) {
    const fs::path path = files().folder().file("whole");
    warm = true;  // no warm-up: it would not help a disk, and disks are slow
    measure(state, warm, [&] {
        files().folder().settle(path);
        return seconds_of([&] { base.save(path); });
    });
    expect(Bytes::load(path)[kTouched] == std::byte{kFilled}, "another value");
    files().folder().settle(path);
}

void write_whole(benchmark::State& state, bool& warm, std::size_t bytes) {
    const fs::path path = files().folder().file("written");
    const std::vector<std::byte> heap = filled_heap(bytes);
    warm = true;
    measure(state, warm, [&] {
        files().folder().settle(path);
        return seconds_of([&] {
            const UniqueFd file = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
            const std::span<const std::byte> all(heap);
            for (std::size_t at = 0; at < all.size(); at += kPiece) {
                vmcow::sys::write_all(file.get(), all.subspan(at, std::min(kPiece, all.size() - at)), path);
            }
            if (::fsync(file.get()) != 0) throw_errno("fsync");
        });
    });
    expect(fs::file_size(path) == bytes, "not every byte was written");
    files().folder().settle(path);
}

void load_whole(benchmark::State& state, bool& warm, const Bytes& base, bool use) {
    const fs::path path = files().saved(base);
    const std::size_t pages = base.size() / vmcow::kPageBytes;
    measure(state, warm, [&] {
        std::uint64_t sum = 0;
        const double seconds = seconds_of([&] {
            const Bytes loaded = Bytes::load(path);
            const std::span<const std::byte> bytes = loaded.read();
            for (std::size_t page = 0; use && page < pages; ++page) {
                sum += static_cast<std::uint64_t>(bytes[page * vmcow::kPageBytes]);
            }
            benchmark::DoNotOptimize(bytes);
        });
        expect(!use || sum == pages * kFilled, "another value");
        return seconds;
    });
}

void read_whole(benchmark::State& state, bool& warm, const Bytes& base) {
    const fs::path path = files().saved(base);
    std::vector<std::byte> heap(base.size());
    measure(state, warm, [&] {
        return seconds_of([&] {
            const UniqueFd file = open_file(path, O_RDONLY);
            const std::size_t read = vmcow::sys::read_full(file.get(), heap, path);
            expect(read == heap.size(), "the file is too short");
        });
    });
}

}  // namespace

void register_file_rows(const BenchSizes& sizes, const BaseValue& base) {
    using benchmark::State;
    const std::size_t bytes = sizes.value_bytes;
    for (const bool sync : {true, false}) {
        const std::string form = sync ? "" : "_unsynced";
        add_row("value/save_delta" + form, sizes, 9,
                [=](State& state, bool& warm) { save_delta(state, warm, base(), sync); });
        add_row("raw/write_changed" + form, sizes, 9,
                [=](State& state, bool& warm) { write_changed(state, warm, bytes, sync); });
    }
    add_row("value/save/1GiB", sizes, 3, [=](State& state, bool& warm) { save_whole(state, warm, base()); });
    add_row("raw/write/1GiB", sizes, 3, [=](State& state, bool& warm) { write_whole(state, warm, bytes); });
    add_row("value/load/1GiB", sizes, 9, [=](State& state, bool& warm) { load_whole(state, warm, base(), false); });
    add_row("value/load_and_use/1GiB", sizes, 9,
            [=](State& state, bool& warm) { load_whole(state, warm, base(), true); });
    add_row("raw/read/1GiB", sizes, 5, [=](State& state, bool& warm) { read_whole(state, warm, base()); });
}

void end_files() { opened.reset(); }

}  // namespace bench
