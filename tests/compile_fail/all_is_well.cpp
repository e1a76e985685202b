// expect: nothing
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "vmcow/containers.hpp"

int sum(std::span<const int> values);
void fill(std::span<int> values);
void exchange(std::span<int> a, std::span<int> b);
int twice(int number);
double twice(double number);

struct Scale {
    double factor;
    char name[16];
    double operator()(double value) const { return factor * value; }
};
struct Report {
    std::optional<std::string> title;
    std::map<std::string, std::set<long>> where;
    std::unordered_map<long, std::variant<std::monostate, std::string, std::vector<bool>>> what;
    std::chrono::nanoseconds time;
    std::complex<double> number;
    std::filesystem::path file;
    std::deque<std::pair<int, std::string>> rest;
    int sizes[3];
};
struct Tree {
    std::string name;
    std::vector<Tree> children;
};
class Money {
public:
    explicit Money(long cents) : cents_(cents) {}

private:
    long cents_;
};
template <>
inline constexpr bool vmcow::kVouched<Money> = true;
struct Doc {
    vmcow::string title;
    vmcow::map<vmcow::string, vmcow::vector<Doc>> chapters;
    std::optional<std::pair<long, vmcow::string>> note;
    Money price;
};

void f(procrun::Pool& pool, const vmcow::Snapshot& image, vmcow::Arena& arena, int number, const Report& report) {
    static_cast<void>(pool.call(sum, arena));
    static_cast<void>(pool.apply(fill, image));
    static_cast<void>(pool.apply(exchange, image, std::move(arena)));
    static_cast<void>(pool.async_apply(fill, std::move(arena)));
    static_cast<void>(
        pool.call([](const std::vector<std::string>& texts) { return texts; }, std::vector<std::string>{}));
    static_cast<void>(pool.call(procrun::by_bytes([number] { return number; })));
    static_cast<void>(pool.call(Scale{2, "double"}, 1.0));
    static_cast<void>(pool.call(static_cast<double (*)(double)>(twice), 1.0));
    static_cast<void>(pool.call([](const Report& given) { return given; }, report));
    static_cast<void>(
        pool.call([](const Tree& tree, Money money) { return std::pair(tree, money); }, Tree{}, Money(1)));
    static_cast<void>(pool.call([](const Doc& doc) { return doc.title.size(); },
                                vmcow::Value<Doc>(std::in_place, Doc{{}, {}, {}, Money(1)})));
    static_cast<void>(procrun::fork_call([&] { return std::pair(report, number); }));
    for (const Tree& child : pool.call([](Tree tree) { return tree; }, Tree{}).value().children)
        f(pool, image, arena, static_cast<int>(child.name.size()), report);
}
