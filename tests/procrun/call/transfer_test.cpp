// Transfer: which types can be arguments and results, how they go to bytes and back, and bytes that are forged.
#include "procrun/call/transfer.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bitset>
#include <cerrno>
#include <chrono>
#include <compare>
#include <complex>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/containers.hpp"

namespace {

using procrun::fork_call;
using procrun::Pool;
using procrun::Transfer;
using procrun::Transferable;
using tests::error_of;
using vmcow::PlainBytes;

// ---- types

struct Point {
    int x;
    int y;
    auto operator<=>(const Point&) const = default;
};
struct Flags {
    unsigned a : 3;
    unsigned b : 5;
    std::string name;
    bool operator==(const Flags& other) const { return a == other.a && b == other.b && name == other.name; }
};
struct Tree {
    std::string name;
    std::vector<Tree> children;
    bool operator==(const Tree&) const = default;
};
struct Report {
    std::optional<std::string> title;
    std::map<std::string, std::set<long>> where;
    std::unordered_map<long, std::variant<std::monostate, std::string, std::vector<bool>>> what;
    std::chrono::nanoseconds time;
    std::complex<double> number;
    std::filesystem::path file;
    std::deque<std::pair<int, std::string>> rest;
    std::array<std::optional<Point>, 3> points;
    int sizes[2][3];
    std::string names[2];
    bool done;
    bool operator==(const Report&) const = default;
};
struct ManyMembers {
    long a[1000];
    std::int8_t m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20;
};
class Money {
public:
    explicit Money(long cents) : cents_(cents) {}
    bool operator==(const Money&) const = default;

private:
    long cents_;
};
class Secret {
public:
    explicit Secret(const char* text) : text_(text) {}

private:
    const char* text_;
};
class Sent {
public:
    explicit Sent(std::string text) : text_(std::move(text)) {}
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    std::string text_;
};
struct WithSent {
    Sent sent;
    int number;
};

}  // namespace

template <>
inline constexpr bool vmcow::kVouched<Money> = true;
template <>
struct procrun::Transfer<Sent> {
    static void put(pipes::MessageWriter& writer, const Sent& value) {
        Transfer<std::string>::put(writer, value.text());
    }
    static Sent take(pipes::MessageReader& reader) { return Sent(Transfer<std::string>::take(reader)); }
};

namespace {

static_assert(PlainBytes<Point> && PlainBytes<ManyMembers> && PlainBytes<Money> && PlainBytes<std::optional<Point>>);
static_assert(PlainBytes<std::bitset<9>> && PlainBytes<std::complex<float>> && PlainBytes<std::monostate>);
static_assert(!PlainBytes<Secret> && !PlainBytes<std::optional<Secret>> && !PlainBytes<std::array<const int*, 2>>);
static_assert(!PlainBytes<std::string_view> && !PlainBytes<std::nullptr_t> && !PlainBytes<int Point::*>);
static_assert(Transferable<Report> && Transferable<Tree> && Transferable<Flags> && Transferable<WithSent>);
static_assert(Transferable<std::tuple<>> && Transferable<std::array<std::string, 0>> && Transferable<bool>);
static_assert(!Transferable<std::vector<Secret>> && !Transferable<std::unique_ptr<int>> && !Transferable<int&>);
static_assert(!Transferable<std::pmr::string> && !Transferable<std::map<int, int, bool (*)(int, int)>>);
static_assert(!Transferable<vmcow::vector<int>>, "its memory is in a value: the value goes");

// ---- there and back

template <class T>
T there_and_back(const T& value) {
    pipes::MessageWriter writer;
    Transfer<T>::put(writer, value);
    pipes::MessageReader reader(writer.bytes(), {});
    T back = Transfer<T>::take(reader);
    reader.expect_end();
    return back;
}

Report example_report() {
    return {.title = "a title that is longer than a short string",
            .where = {{"here", {1, 2, 3}}, {"", {}}},
            .what = {{1, std::monostate{}}, {2, "two"}, {3, std::vector<bool>{true, false, true}}},
            .time = std::chrono::seconds(3),
            .number = {1, -1},
            .file = "/tmp/file",
            .rest = {{1, "one"}, {2, ""}},
            .points = {Point{1, 2}, std::nullopt, Point{3, 4}},
            .sizes = {{1, 2, 3}, {4, 5, 6}},
            .names = {"first", "second"},
            .done = true};
}

TEST(TransferTest, EveryContainerComesBackAsItWas) {
    const auto same = [](const auto& value) { return there_and_back(value) == value; };
    EXPECT_TRUE(same(std::vector<bool>{true, false, true, true}));
    EXPECT_TRUE(same(std::deque<std::string>{"a", "", "c"}));
    EXPECT_TRUE(same(std::list<Point>{{1, 2}, {3, 4}}));
    EXPECT_TRUE(same(std::forward_list<std::string>{"a", "b", "c"}));
    EXPECT_TRUE(same(std::set<std::pair<int, std::string>>{{2, "b"}, {1, "a"}}));
    EXPECT_TRUE(same(std::multiset<int, std::greater<>>{1, 1, 3, 2}));
    EXPECT_TRUE(same(std::map<std::string, std::vector<std::string>>{{"a", {"1"}}, {"b", {}}}));
    EXPECT_TRUE(same(std::multimap<int, int>{{1, 1}, {1, 2}, {0, 3}}));
    EXPECT_TRUE(same(std::unordered_set<std::string>{"x", "y"}));
    EXPECT_TRUE(same(std::unordered_multiset<int>{1, 1, 2}));
    EXPECT_TRUE(same(std::unordered_map<std::string, Point>{{"x", {1, 2}}}));
    EXPECT_TRUE(same(std::unordered_multimap<int, std::string>{{1, "a"}, {1, "b"}}));
    EXPECT_TRUE(same(std::u16string(u"wide")));
    EXPECT_TRUE(same(std::vector<std::vector<std::vector<int>>>{{{1}, {}}, {}}));
}

TEST(TransferTest, ChoicesPairsAndArraysComeBackAsTheyWere) {
    const auto same = [](const auto& value) { return there_and_back(value) == value; };
    EXPECT_TRUE(same(std::optional<std::string>{}));
    EXPECT_TRUE(same(std::optional<std::optional<int>>{std::optional<int>{}}));
    EXPECT_TRUE(same(std::variant<int, std::string, int>(std::in_place_index<2>, 7)));
    EXPECT_TRUE(same(std::variant<std::monostate, Point>{}));
    EXPECT_TRUE(same(std::array<std::string, 3>{"a", "b", "c"}));
    EXPECT_TRUE(same(std::array<std::string, 0>{}));
    EXPECT_TRUE(same(std::tuple<>{}));
    EXPECT_TRUE(same(std::tuple<int, std::string, std::pair<bool, Point>>{1, "b", {true, {2, 3}}}));
    EXPECT_TRUE(same(std::vector<std::tuple<>>(5)));
    EXPECT_TRUE(same(std::bitset<70>(5)));
    EXPECT_TRUE(same(Money(5)));
    EXPECT_EQ(there_and_back(WithSent{Sent("own way"), 3}).sent.text(), "own way");
}

TEST(TransferTest, StructsComeBackMemberByMember) {
    const Report report = example_report();
    EXPECT_EQ(there_and_back(report), report);
    const Flags flags{5, 17, "bits"};
    EXPECT_EQ(there_and_back(flags), flags);
    const Tree tree{"root", {{"a", {}}, {"b", {{"c", {}}}}}};
    EXPECT_EQ(there_and_back(tree), tree);
}

TEST(TransferTest, StructsGoThroughFunctionProcesses) {
    const Report report = example_report();
    EXPECT_EQ(fork_call([&] { return report; }).value(), report);
    Pool pool(tests::workers(1));
    const auto turn = [](Report given, const std::optional<Tree>& tree) {
        given.title.reset();
        given.where["there"].insert(4);
        return std::pair(given, tree.value().children.at(1));
    };
    const std::optional<Tree> tree(Tree{"root", {{"a", {}}, {"b", {{"c", {}}}}}});
    const auto [turned, child] = pool.call(turn, report, tree).value();
    Report expected = report;
    expected.title.reset();
    expected.where["there"].insert(4);
    EXPECT_EQ(turned, expected);
    EXPECT_EQ(child, tree->children[1]);
}

TEST(TransferTest, AStructCarriesSnapshotsAndValues) {
    struct Both {
        vmcow::Snapshot snapshot;
        vmcow::Value<long[]> numbers;
        std::string name;
    };
    static_assert(Transferable<Both>);
    const vmcow::Snapshot image = tests::counting_snapshot(3);
    const auto both = fork_call([&] { return Both{image, vmcow::Value<long[]>{1, 2, 3}, "both"}; }).value();
    EXPECT_TRUE(tests::is_counting(tests::longs_in(both.snapshot)));
    EXPECT_EQ(both.numbers[2], 3);
    EXPECT_EQ(both.name, "both");
}

// ---- what is not to be believed

std::vector<std::byte> bytes_of(std::uint64_t number, std::size_t more = 0) {
    std::vector<std::byte> bytes(sizeof(number) + more);
    std::memcpy(bytes.data(), &number, sizeof(number));
    return bytes;
}
template <class T>
int refusal(std::span<const std::byte> bytes) {
    return error_of([&] {
        pipes::MessageReader reader(bytes, {});
        static_cast<void>(Transfer<T>::take(reader));
    });
}

TEST(TransferTest, MoreElementsThanHaveComeAreRefused) {
    for (const std::uint64_t count :
         {std::uint64_t{9}, std::uint64_t{1} << 40, std::numeric_limits<std::uint64_t>::max()}) {
        const auto bytes = bytes_of(count, 8);
        EXPECT_EQ(refusal<std::vector<int>>(bytes), EBADMSG) << count;
        EXPECT_EQ((refusal<std::vector<std::string>>(bytes)), EBADMSG) << count;
        EXPECT_EQ(refusal<std::vector<bool>>(bytes), EBADMSG) << count;
        EXPECT_EQ(refusal<std::vector<std::tuple<>>>(bytes), EBADMSG) << count;
        EXPECT_EQ((refusal<std::map<int, std::string>>(bytes)), EBADMSG) << count;
        EXPECT_EQ((refusal<std::forward_list<std::array<std::string, 0>>>(bytes)), EBADMSG) << count;
        EXPECT_EQ(refusal<std::string>(bytes), EBADMSG) << count;
    }
}

TEST(TransferTest, AnAlternativeThatIsNoneIsRefused) {
    using Choice = std::variant<int, std::string>;
    EXPECT_EQ(refusal<Choice>(bytes_of(2, 8)), EBADMSG);
    EXPECT_EQ(refusal<Choice>(bytes_of(std::numeric_limits<std::uint64_t>::max(), 8)), EBADMSG);
    EXPECT_EQ((refusal<std::variant<int, long>>(bytes_of(7, 8))), EBADMSG) << "trivially copyable, too";
}

TEST(TransferTest, ATruthThatIsNeitherIsTrue) {
    const std::byte two{2};
    pipes::MessageReader reader(std::span(&two, 1), {});
    EXPECT_EQ(Transfer<bool>::take(reader), true);
}

TEST(TransferTest, DeepNestingIsRefusedAndNotFollowed) {
    // Each level is an empty name and one child.
    std::vector<std::byte> bytes;
    for (int i = 0; i < 1'000'000; ++i) {
        for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{1}}) {
            const auto more = bytes_of(number);
            bytes.insert(bytes.end(), more.begin(), more.end());
        }
    }
    EXPECT_EQ(refusal<Tree>(bytes), EBADMSG);
    Tree deep;
    for (int i = 0; i < 400; ++i) {
        Tree outer;
        outer.children.push_back(std::move(deep));
        deep = std::move(outer);
    }
    EXPECT_EQ(there_and_back(deep), deep);
}

// Random bytes are either a value or refused; reading them must have no other effect.
TEST(TransferTest, NoiseIsAValueOrRefused) {
    std::uint64_t state = 1;
    std::vector<std::byte> bytes(256);
    for (int round = 0; round < 20'000; ++round) {
        for (std::byte& each : bytes) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            each = static_cast<std::byte>((state >> 60) < 11 ? 0 : (state >> 33) % 4);
        }
        const auto some = std::span(bytes).first(static_cast<std::size_t>(state >> 56));
        const int refused = refusal<Report>(some);
        ASSERT_TRUE(refused == 0 || refused == EBADMSG) << refused;
        const int tree = refusal<Tree>(some);
        ASSERT_TRUE(tree == 0 || tree == EBADMSG) << tree;
    }
}

}  // namespace
