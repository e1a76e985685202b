// Tests how addresses of code get names: from ELF files, from perf maps, and as offsets where there is neither.
#include "vmcow/meter/stacks/symbols.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "tests/support/support.hpp"
#include "vmcow/meter/stacks/code_map.hpp"
#include "vmcow/meter/stacks/copy_stacks.hpp"
#include "vmcow/meter/stacks/perf_map.hpp"

namespace {

using namespace vmcow::meter;

__attribute__((noinline)) void named_function() { asm volatile(""); }

void write_file(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::uint64_t address_of(void (*function)()) { return reinterpret_cast<std::uint64_t>(function); }

TEST(SymbolsTest, OwnFunctionHasItsNameFileAndLine) {
    Symbols symbols;
    CodeMap map(::getpid());
    map.add_all(symbols);
    const CodePlace place = map.place_of(address_of(named_function));
    ASSERT_NE(place.object, CodePlace::kNowhere);
    const CodeName& name = symbols.names_at(place, false).back();
    EXPECT_NE(name.function.find("named_function"), std::string::npos) << name.function;
    ASSERT_TRUE(name.file && name.line);
    EXPECT_TRUE(name.file->ends_with("symbols_test.cpp"));
    EXPECT_GT(*name.line, 0);
}

TEST(SymbolsTest, AddressInNoMappingIsUnknown) {
    Symbols symbols;
    CodeMap map(::getpid());
    map.add_all(symbols);
    const CodePlace place = map.place_of(1);
    EXPECT_EQ(place.object, CodePlace::kNowhere);
    EXPECT_EQ(symbols.names_at(place, false).front().function, "unknown");
}

TEST(SymbolsTest, FileThatIsNoElfIsNamedByOffsets) {
    const tests::TemporaryDirectory directory;
    write_file(directory / "text", std::string(10000, 'x'));
    struct stat status {};
    ASSERT_EQ(::stat((directory / "text").c_str(), &status), 0);
    Symbols symbols;
    const std::uint32_t object = symbols.add_file(::getpid(), directory / "text", status.st_ino);
    EXPECT_EQ(symbols.names_at({object, 0x1234}, false).front().function, "text+0x1234");
    EXPECT_EQ(symbols.names_at({object, 0x1234}, false).front().object, directory / "text");
}

TEST(SymbolsTest, FileThatWasCutShortIsNamedByOffsets) {
    const tests::TemporaryDirectory directory;
    std::ifstream whole(COPYING_FUNCTIONS, std::ios::binary);
    std::string bytes(5000, '\0');
    whole.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    write_file(directory / "cut", bytes);
    struct stat status {};
    ASSERT_EQ(::stat((directory / "cut").c_str(), &status), 0);
    Symbols symbols;
    const std::uint32_t object = symbols.add_file(::getpid(), directory / "cut", status.st_ino);
    EXPECT_EQ(symbols.names_at({object, 0x1200}, false).front().function, "cut+0x1200");
}

/// A file that was replaced since must not give names that belong to another program.
TEST(SymbolsTest, FileThatWasReplacedIsKnownByNameAlone) {
    struct stat status {};
    ASSERT_EQ(::stat(COPYING_FUNCTIONS, &status), 0);
    Symbols symbols;
    const std::uint32_t object = symbols.add_file(::getpid(), COPYING_FUNCTIONS, status.st_ino + 1);
    EXPECT_EQ(symbols.names_at({object, 0x1200}, false).front().function, "copying_functions+0x1200");
}

TEST(CodeMapTest, NewerMappingTakesThePlaceOfWhatItCovers) {
    Symbols symbols;
    CodeMap map(::getpid());
    map.add(symbols, 0x10000, 0x20000, 0, "/no/such/a", 1);
    map.add(symbols, 0x14000, 0x15000, 0x100, "/no/such/b", 2);
    const CodePlace before = map.place_of(0x13fff);
    const CodePlace inside = map.place_of(0x14001);
    const CodePlace behind = map.place_of(0x15000);
    EXPECT_EQ(before.offset, 0x3fffU);
    EXPECT_EQ(inside.offset, 0x101U);
    EXPECT_EQ(behind.offset, 0x5000U);
    EXPECT_EQ(before.object, behind.object);
    EXPECT_NE(before.object, inside.object);
    EXPECT_EQ(map.place_of(0x20000).object, CodePlace::kNowhere);
}

TEST(CodeMapTest, ChildsMappingIsNotItsParents) {
    Symbols symbols;
    CodeMap parent(10);
    parent.add(symbols, 0x10000, 0x20000, 0, "/no/such/a", 1);
    CodeMap child = parent.forked(11);
    child.add(symbols, 0x30000, 0x40000, 0, "/no/such/b", 2);
    EXPECT_NE(child.place_of(0x10000).object, CodePlace::kNowhere);
    EXPECT_NE(child.place_of(0x30000).object, CodePlace::kNowhere);
    EXPECT_EQ(parent.place_of(0x30000).object, CodePlace::kNowhere);
    child.clear();
    EXPECT_EQ(child.place_of(0x10000).object, CodePlace::kNowhere);
    EXPECT_NE(parent.place_of(0x10000).object, CodePlace::kNowhere);
}

TEST(PerfMapTest, FunctionIsFoundFromItsFirstToItsLastByte) {
    const tests::TemporaryDirectory directory;
    write_file(directory / "map",
               "1000 10 first\n0x1010 20 second with spaces\n\nnonsense\n2000 zz bad\n3000 10\n4000 0 none\n");
    const PerfMap map(directory / "map", ::getuid());
    EXPECT_EQ(map.name_at(0xfff), std::nullopt);
    EXPECT_EQ(map.name_at(0x1000), "first");
    EXPECT_EQ(map.name_at(0x100f), "first");
    EXPECT_EQ(map.name_at(0x1010), "second with spaces");
    EXPECT_EQ(map.name_at(0x1030), std::nullopt);
    EXPECT_EQ(map.name_at(0x3000), std::nullopt);
    EXPECT_EQ(map.name_at(0x4000), std::nullopt);
}

TEST(PerfMapTest, LaterFunctionTakesThePlaceOfAnEarlierOne) {
    const tests::TemporaryDirectory directory;
    write_file(directory / "map", "1000 100 old\n1080 10 new");
    const PerfMap map(directory / "map", ::getuid());
    EXPECT_EQ(map.name_at(0x1080), "new");
    EXPECT_EQ(map.name_at(0x1000), std::nullopt);
}

TEST(PerfMapTest, StrangersFileAndLinkAndFolderAreNoMaps) {
    const tests::TemporaryDirectory directory;
    write_file(directory / "map", "1000 10 first\n");
    ASSERT_EQ(::symlink((directory / "map").c_str(), (directory / "link").c_str()), 0);
    EXPECT_TRUE(PerfMap(directory / "link", ::getuid()).empty());
    EXPECT_TRUE(PerfMap(directory.path(), ::getuid()).empty());
    EXPECT_TRUE(PerfMap(directory / "absent", ::getuid()).empty());
    ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
    EXPECT_TRUE(PerfMap(directory / "pipe", ::getuid()).empty());
    if (::getuid() != 0) GTEST_SKIP() << "CAP_CHOWN, to make a file of somebody else";
    ASSERT_EQ(::chown((directory / "map").c_str(), 12345, 12345), 0);
    EXPECT_TRUE(PerfMap(directory / "map", 54321).empty());
    EXPECT_FALSE(PerfMap(directory / "map", 12345).empty());
}

TEST(CopyStacksTest, NamesCannotBreakALineOfFoldedStacks) {
    Symbols symbols;
    const std::uint32_t object = symbols.add_file(::getpid(), "/no/such;file\nwith line", 1);
    const std::map<CallChain, std::uint64_t> copies{{{{object, 0x10}}, 7}};
    EXPECT_EQ(folded_stacks(copies, symbols, "a;b"), "a:b;such:file?with line+0x10 7\n");
}

}  // namespace
