// A text and an index of its words in one image, passed by value through a chain of three function processes and one
// ordinary program. Each changes its own copy and hands it to the next one by descriptor. No other process sees a
// change.
//
//     word_index FILE [WORD]        WORD is marked in the text; the default is "license"
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/program.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/view.hpp"

namespace {

using vmcow::Arena;
using vmcow::Snapshot;
using vmcow::View;

// ---- the image: | text | IndexHeader | IndexEntry … |, found by offsets, so it can lie at any address

struct IndexHeader {
    std::uint64_t words = 0;     // number of words in the text
    std::uint64_t distinct = 0;  // entries in use
    std::uint64_t dropped = 0;   // words for which the index had no room
};

struct IndexEntry {
    std::uint64_t offset = 0;  // of the first occurrence of the word
    std::uint32_t length = 0;
    std::uint32_t count = 0;  // 0: the entry is free
};

/// The offsets in the image. The caller knows them, and every function gets them by value.
struct Layout {
    std::size_t text_bytes = 0;
    std::size_t header_offset = 0;
    std::size_t entries_offset = 0;
    std::size_t entry_count = 0;  // a power of two
};

struct Index {
    std::span<char> text;
    IndexHeader& header;
    std::span<IndexEntry> entries;

    Index(std::span<std::byte> image, const Layout& at)
        : text(reinterpret_cast<char*>(image.data()), at.text_bytes),
          header(*reinterpret_cast<IndexHeader*>(image.data() + at.header_offset)),
          entries(reinterpret_cast<IndexEntry*>(image.data() + at.entries_offset), at.entry_count) {}

    [[nodiscard]] std::string_view word(const IndexEntry& entry) const {
        return {text.data() + entry.offset, entry.length};
    }
};

bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }

/// Calls `visit(offset, length)` for every run of letters.
template <class Visit>
void for_each_word(std::span<const char> text, Visit&& visit) {
    for (std::size_t at = 0; at < text.size();) {
        if (!is_letter(text[at])) {
            ++at;
            continue;
        }
        const std::size_t start = at;
        while (at < text.size() && is_letter(text[at])) ++at;
        visit(start, at - start);
    }
}

bool same_word(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// Hashes a word as if it were in lower case.
std::uint64_t hash_of(std::string_view word) {
    char lower[64];
    const std::size_t length = std::min(word.size(), sizeof lower);
    std::transform(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(length), lower,
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return XXH3_64bits(lower, length);
}

// ---- the functions that run in the function processes; each returns the number of bytes that it wrote

std::uint64_t build_index(Index index) {
    std::uint64_t written = 0;
    const std::size_t mask = index.entries.size() - 1;
    for_each_word(index.text, [&](std::size_t offset, std::size_t length) {
        const std::string_view word(index.text.data() + offset, length);
        std::size_t slot = hash_of(word) & mask;
        while (index.entries[slot].count != 0 && !same_word(index.word(index.entries[slot]), word)) {
            slot = (slot + 1) & mask;
        }
        IndexEntry& entry = index.entries[slot];
        if (entry.count == 0) {
            if (index.header.distinct + 1 >= index.entries.size()) {
                ++index.header.dropped;
                return;
            }
            entry = {offset, static_cast<std::uint32_t>(length), 0};
            ++index.header.distinct;
            written += sizeof(IndexEntry);
        }
        ++entry.count;
        ++index.header.words;
        written += sizeof(entry.count);
    });
    return written + sizeof(IndexHeader);
}

std::uint64_t mark_word(Index index, std::string_view wanted) {
    std::uint64_t written = 0;
    for_each_word(index.text, [&](std::size_t offset, std::size_t length) {
        if (!same_word({index.text.data() + offset, length}, wanted)) return;
        for (char& letter : index.text.subspan(offset, length)) {
            letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
        }
        written += length;
    });
    return written;
}

std::uint64_t rank_entries(Index index) {
    std::sort(index.entries.begin(), index.entries.end(), [](const IndexEntry& a, const IndexEntry& b) {
        return std::tie(b.count, a.offset) < std::tie(a.count, b.offset);
    });
    return index.entries.size_bytes();
}

// ---- the chain

struct StageReport {
    std::string name;
    std::string runs_as;
    double seconds = 0;
    std::uint64_t copied_bytes = 0;
    std::uint64_t changed_bytes = 0;
    std::uint64_t logical_bytes = 0;
};

struct Staged {
    Snapshot value;
    StageReport report;
};

/// Runs `function` on the value in a new process and returns the value that it made.
template <class Function>
Staged function_stage(const std::string& name, const Snapshot& value, const Layout& layout, Function&& function) {
    auto result = procrun::fork_call([&] {
        View copy = value.map_private();
        const std::uint64_t logical = function(Index(copy.bytes(), layout));
        return std::make_tuple(copy.capture(), logical, copy.changes());
    });
    if (!result.ok()) throw std::runtime_error(name + ": " + result.outcome().describe());
    const double seconds = result.cost().seconds;
    auto [made, logical, changes] = std::move(result).value();
    return {made, {name, "function", seconds, changes.copied_bytes(), changes.changed_bytes, logical}};
}

std::uint64_t differing_text(const Snapshot& a, const Snapshot& b, std::size_t text_bytes) {
    std::uint64_t differing = 0;
    for (std::size_t at = 0; at < text_bytes; ++at) differing += a.bytes()[at] != b.bytes()[at] ? 1U : 0U;
    return differing;
}

/// Has dd(1) write the text in capitals. It reads the value and writes into the next arena, both by descriptor.
Staged program_stage(const Snapshot& value, const Layout& layout) {
    const auto started = std::chrono::steady_clock::now();
    const Snapshot whole = value.flatten();  // a program reads one file; a value with deltas is several
    const auto in = vmcow::sys::open_file("/proc/self/fd/" + std::to_string(whole.base_fd()), O_RDONLY);
    Arena next({.name = "capitals"});
    next.allocate(layout.text_bytes, 1);
    const auto out = vmcow::sys::open_file("/proc/self/fd/" + std::to_string(next.fd()), O_RDWR);
    auto program = procrun::Program({"dd", "conv=ucase,notrunc", "iflag=count_bytes,fullblock", "bs=1M", "status=none",
                                     "count=" + std::to_string(layout.text_bytes)})
                       .descriptor(0, in.get())
                       .descriptor(1, out.get())
                       .start();
    if (const auto* const refused = std::get_if<procrun::Outcome>(&program))
        throw std::runtime_error(refused->describe());
    const procrun::ExitRecord ended = std::get<procrun::Process>(program).wait();
    if (!ended.outcome.ok()) throw std::runtime_error("dd: " + ended.outcome.describe());
    next.append(whole.bytes().subspan(layout.text_bytes));
    Snapshot made = std::move(next).freeze();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    const std::uint64_t changed = differing_text(whole, made, layout.text_bytes);
    const std::uint64_t copied = vmcow::pages_of(layout.text_bytes).bytes();
    return {made, {"capitals", "program dd", seconds, copied, changed, layout.text_bytes}};
}

std::pair<Snapshot, Layout> load(const std::string& path) {
    const auto file = vmcow::sys::open_file(path, O_RDONLY);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0)
        throw std::system_error(errno, std::system_category(), "stat '" + path + "'");
    if (!S_ISREG(status.st_mode)) throw std::runtime_error("'" + path + "' is not a regular file");
    Layout layout;
    layout.text_bytes = static_cast<std::size_t>(status.st_size);
    if (layout.text_bytes == 0) throw std::runtime_error("'" + path + "' is empty");
    layout.entry_count = std::bit_ceil(std::max<std::size_t>(layout.text_bytes / 64, 1024));
    Arena arena({.name = "words"});
    std::byte* const text = arena.allocate(layout.text_bytes, 1);
    if (vmcow::sys::read_full(file.get(), {text, layout.text_bytes}, path) != layout.text_bytes) {
        throw std::runtime_error("'" + path + "' became shorter while it was read");
    }
    const auto offset_of = [&](const std::byte* at) { return static_cast<std::size_t>(at - text); };
    layout.header_offset = offset_of(arena.allocate(sizeof(IndexHeader), vmcow::kPageBytes));
    layout.entries_offset = offset_of(arena.allocate(layout.entry_count * sizeof(IndexEntry), vmcow::kPageBytes));
    return {std::move(arena).freeze(), layout};
}

std::uint64_t checksum(const Snapshot& value) { return XXH3_64bits(value.bytes().data(), value.bytes().size()); }

double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void print_report(const std::vector<StageReport>& reports) {
    fmt::print("{:<10} {:<11} {:>9} {:>12} {:>12} {:>14} {:>14} {:>8}\n", "stage", "runs as", "time", "pages copied",
               "copied", "bytes written", "bytes changed", "amplif.");
    for (const StageReport& report : reports) {
        const double amplification = static_cast<double>(report.copied_bytes) /
                                     static_cast<double>(std::max<std::uint64_t>(report.logical_bytes, 1));
        fmt::print("{:<10} {:<11} {:>6.0f} ms {:>12} {:>8.1f} MiB {:>14} {:>14} {:>8.2f}\n", report.name,
                   report.runs_as, report.seconds * 1e3, report.copied_bytes / vmcow::kPageBytes,
                   mebibytes(report.copied_bytes), report.logical_bytes, report.changed_bytes, amplification);
    }
}

void print_words(const Snapshot& value, const Layout& layout) {
    View view = value.map_private();
    const Index index(view.bytes(), layout);
    fmt::print("{} words, {} distinct", index.header.words, index.header.distinct);
    if (index.header.dropped > 0) fmt::print(" ({} more not indexed: the index is full)", index.header.dropped);
    fmt::print("; the most frequent:");
    for (const IndexEntry& entry : index.entries.first(5)) {
        if (entry.count > 0) fmt::print(" {} {}", index.word(entry), entry.count);
    }
    fmt::print("\n");
}

int run(const std::string& path, const std::string& wanted) {
    const auto [value, layout] = load(path);
    const std::uint64_t before = checksum(value);
    fmt::print("one value of {:.1f} MiB: {:.1f} MiB of text and an index for it\n\n", mebibytes(value.extent_bytes()),
               mebibytes(layout.text_bytes));

    std::vector<Staged> chain;
    chain.push_back(function_stage("index", value, layout, build_index));
    chain.push_back(
        function_stage("mark", chain.back().value, layout, [&](Index index) { return mark_word(index, wanted); }));
    chain.push_back(function_stage("rank", chain.back().value, layout, rank_entries));
    chain.push_back(program_stage(chain.back().value, layout));

    std::vector<StageReport> reports;
    reports.reserve(chain.size());
    for (const Staged& staged : chain) reports.push_back(staged.report);
    print_report(reports);
    fmt::print("\n");
    print_words(chain.back().value, layout);
    const std::uint64_t after = checksum(value);
    fmt::print("the caller's value: checksum {:016x} before, {:016x} after: {}\n", before, after,
               before == after ? "untouched" : "CHANGED");
    return before == after ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2 || argc > 3 || argv[1][0] == '-') {
        fmt::print(stderr, "usage: word_index FILE [WORD]\n");
        return 2;
    }
    try {
        const int status = run(argv[1], argc > 2 ? argv[2] : "license");
        if (std::fflush(stdout) != 0) throw std::system_error(errno, std::system_category(), "standard output");
        return status;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "word_index: %s\n", error.what()));
        return 1;
    }
}
