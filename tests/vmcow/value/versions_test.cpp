// Versions of a value: copies that are kept while the value is edited further.
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "tests/support/forbidden_call.hpp"
#include "tests/support/process_counts.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"

namespace {

using tests::kHeapMappings;
using tests::mappings;
using vmcow::kPageBytes;
using vmcow::PageCount;
using vmcow::PageStore;
using Words = vmcow::Value<std::uint64_t[]>;

constexpr std::size_t kPages = 1024;  // 4 MiB: more than is copied as a whole
constexpr std::size_t kWordsInPage = kPageBytes / sizeof(std::uint64_t);

void write(Words& value, std::size_t page, std::uint64_t word) {
    value.edit([&](std::span<std::uint64_t> words) { words[page * kWordsInPage] = word; });
}

std::uint64_t word_in(const Words& value, std::size_t page) {
    return *reinterpret_cast<const std::uint64_t*>(value.snapshot().page({page}));
}

/// `count` versions of one value; number i has written i to page i.
std::vector<Words> versions(std::size_t count) {
    std::vector<Words> kept;
    Words newest(kPages * kWordsInPage);
    for (std::size_t i = 0; i < count; ++i) {
        write(newest, i % kPages, i + 1);
        kept.push_back(newest);
    }
    return kept;
}

TEST(VersionsTest, ThatNobodyReadsHoldAPageAndNoMapping) {
    static_cast<void>(versions(2));
    const std::size_t before = mappings();
    const std::uint64_t used = PageStore::used_bytes();
    const std::vector<Words> kept = versions(500);
    EXPECT_LE(mappings(), before + kHeapMappings / 2);
    EXPECT_LE(PageStore::used_bytes() - used, PageCount{500}.bytes());
    for (std::size_t i = 0; i < kept.size(); i += 7) {
        for (std::size_t page = 0; page < kept.size(); ++page) {
            ASSERT_EQ(word_in(kept[i], page), page <= i ? page + 1 : 0) << i;
        }
    }
}

TEST(VersionsTest, AnyOfThemCanBeRead) {
    const std::vector<Words> kept = versions(40);
    for (const std::size_t i : {39U, 0U, 20U}) {
        for (std::size_t page = 0; page < kept.size(); ++page) {
            ASSERT_EQ(kept[i][page * kWordsInPage], page <= i ? page + 1 : 0) << i;
        }
    }
}

TEST(VersionsTest, ThousandsOfPrivatePagesOfWhichFewChange) {
    std::vector<Words> kept = versions(3 * kPages);
    for (const std::size_t i : {kPages - 1, 2 * kPages + 5, 3 * kPages - 1}) {
        for (std::size_t page = 0; page < kPages; ++page) {
            const std::size_t last = i >= page ? page + (i - page) / kPages * kPages + 1 : 0;
            ASSERT_EQ(word_in(kept[i], page), last) << i << ", page " << page;
        }
    }
}

// A program looks at its value between two versions, which must not cost each version a mapping.
TEST(VersionsTest, ReadingTheNewestOneKeepsNoMappingOfTheOthers) {
    const std::size_t before = mappings();
    std::vector<Words> kept;
    Words newest(kPages * kWordsInPage);
    for (std::size_t i = 0; i < 200; ++i) {
        write(newest, i, i + 1);
        EXPECT_EQ(newest[i * kWordsInPage], i + 1);
        kept.push_back(newest);
    }
    EXPECT_LE(mappings(), before + kHeapMappings / 2);
    EXPECT_EQ(word_in(kept[100], 100), 101U);
    EXPECT_EQ(word_in(kept[100], 101), 0U);
}

TEST(VersionsTest, ReferenceOfAnotherHandleStaysGood) {
    Words newest(kPages * kWordsInPage);
    write(newest, 1, 1);
    const Words first = newest;
    const std::uint64_t& word = first[kWordsInPage];
    const Words second = first;
    for (std::uint64_t i = 2; i < 20; ++i) {
        write(newest, 1, i);
        const Words kept = newest;
        EXPECT_EQ(word, 1U);
        EXPECT_EQ(&first[kWordsInPage], &word);
    }
    EXPECT_EQ(second[kWordsInPage], 1U);
    EXPECT_EQ(newest[kWordsInPage], 19U);
}

TEST(VersionsTest, ReferencesOfAMovedHandleStayGood) {
    Words newest(kPages * kWordsInPage);
    write(newest, 1, 1);
    Words first = newest;
    const std::uint64_t& word = first[kWordsInPage];
    const Words moved = std::move(first);
    write(newest, 1, 2);
    EXPECT_EQ(word, 1U);
    EXPECT_EQ(&moved[kWordsInPage], &word);
    Words assigned(8);
    assigned = moved;
    write(newest, 1, 3);
    EXPECT_EQ(word, 1U);
    EXPECT_EQ(assigned[kWordsInPage], 1U);
}

// An old version is edited while newer ones are kept: a tree of versions, and not a chain.
TEST(VersionsTest, BranchFromAnyVersion) {
    std::vector<Words> kept = versions(30);
    std::vector<Words> branches;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        Words branch = kept[i];
        write(branch, 500, 1000 + i);
        branches.push_back(branch);
        write(branch, 501, 7);
    }
    for (std::size_t i = 0; i < kept.size(); ++i) {
        EXPECT_EQ(word_in(kept[i], 500), 0U);
        EXPECT_EQ(word_in(branches[i], 500), 1000 + i);
        EXPECT_EQ(word_in(branches[i], 501), 0U);
        for (std::size_t page = 0; page < kept.size(); ++page) {
            ASSERT_EQ(word_in(branches[i], page), page <= i ? page + 1 : 0);
        }
    }
}

// One handle is read in a thread while another is edited: the view may go with the edit only if nobody reads it.
TEST(VersionsTest, HandleIsReadWhileAnotherIsEdited) {
    for (int round = 0; round < 50; ++round) {
        Words newest(kPages * kWordsInPage);
        write(newest, 3, 5);
        const Words shared = newest;
        std::atomic<bool> wrong = false;
        std::thread reader([&] {
            for (int i = 0; i < 20; ++i) {
                if (shared[3 * kWordsInPage] != 5) wrong = true;
            }
        });
        for (std::uint64_t i = 0; i < 5; ++i) write(newest, 3, 100 + i);
        reader.join();
        EXPECT_FALSE(wrong);
        EXPECT_EQ(newest[3 * kWordsInPage], 104U);
    }
}

// Where the kernel does not tell which pages were written to, all private pages are compared: the same versions.
TEST(VersionsTest, AreTheSameWhereTheKernelDoesNotTellWhatWasWritten) {
    const auto end = tests::in_child([] {
        if (!tests::forbid_call(SYS_userfaultfd, EPERM)) return 124;
        const std::vector<Words> kept = versions(400);
        for (std::size_t i = 0; i < kept.size(); i += 13) {
            for (std::size_t page = 0; page < kept.size(); ++page) {
                if (word_in(kept[i], page) != (page <= i ? page + 1 : 0)) return 1;
            }
        }
        return 0;
    });
    if (end.exit_status == 124) GTEST_SKIP() << "seccomp filters are missing";
    EXPECT_EQ(end, tests::kChildExitedWell);
}

TEST(VersionsTest, GrowFromOneToTheNext) {
    std::vector<Words> kept;
    Words newest(kPages * kWordsInPage);
    for (std::size_t i = 0; i < 20; ++i) {
        newest.append(std::array<std::uint64_t, 2>{i, i + 1});
        kept.push_back(newest);
    }
    for (std::size_t i = 0; i < kept.size(); ++i) {
        ASSERT_EQ(kept[i].size(), kPages * kWordsInPage + 2 * (i + 1));
        EXPECT_EQ(kept[i][kept[i].size() - 1], i + 1);
        EXPECT_EQ(kept[i][kPages * kWordsInPage], 0U);
    }
}

}  // namespace
