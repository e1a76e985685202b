// Typed values: copied in O(1), changed by other processes, in parts, merged, saved and loaded.
#include <fmt/core.h>

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <system_error>
#include <utility>

#include "procrun/pool.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/member_merge.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value_merge.hpp"

namespace {

struct Shop {
    vmcow::string name;
    vmcow::map<vmcow::string, vmcow::vector<double>> prices;
};

void raise(Shop& shop, double factor) {
    for (auto& [title, prices] : shop.prices) {
        for (double& price : prices) price *= factor;
    }
}

void stir(std::span<std::uint64_t> numbers) {
    for (std::uint64_t& number : numbers) number = number * 6364136223846793005U + 1;
}

void run(const std::filesystem::path& folder) {
    procrun::Pool pool;  // before the first thread

    vmcow::Value<Shop> a;
    a.edit([](Shop& shop) { shop.prices["tea"].assign({2.0, 3.0}); });
    a = pool.apply(raise, std::move(a), 2.0).value();        // last use: changed in place, by another process
    vmcow::Value<Shop> b = a;                                // O(1)
    b.edit([](Shop& shop) { shop.name = "another shop"; });  // b becomes private: the kernel copies a page
    const auto copied = b.changes().copied;
    vmcow::Value<Shop> c = pool.apply(raise, b, 10.0).value();  // a new value, b stays
    fmt::print("tea: {} {} {}, pages copied by the edit: {}\n", a->prices.at("tea")[0], b->prices.at("tea")[0],
               c->prices.at("tea")[0], copied.value);

    vmcow::Value<Shop> of_one = c, of_other = c;  // two that work at the same time
    of_one.edit([](Shop& shop) { shop.prices["salt"].push_back(1.0); });
    of_other.edit([](Shop& shop) { shop.prices["milk"].push_back(2.0); });
    const auto unite = vmcow::MemberRules<Shop>().unite(&Shop::prices);
    c = vmcow::merge_members(c, {of_one, of_other}, unite).value();
    fmt::print("prices after the merge: {}\n", c->prices.size());

    vmcow::Value<std::uint64_t[]> numbers(std::size_t{1} << 20);  // 8 MiB of bulk data
    numbers.edit([](auto all) {
        for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    });
    auto stirred = pool.map_parts(stir, numbers, 4).value();     // four parts at once, joined
    auto one = pool.apply(stir, numbers.part(1000, 1)).value();  // a function that sees one element only
    auto other = pool.apply(stir, numbers.part(500'000, 1)).value();
    auto both = vmcow::merge(numbers, {one, other}).value();  // what two have changed
    fmt::print("stirred: {}, merged: {} {} {}, pages of its own: {}\n", stirred[7], both[1000], both[1001],
               both[500'000], both.snapshot().delta_pages().value);

    numbers.save(folder / "numbers");                                             // one file
    both.save(folder / "changes", {.relative_to = folder / "numbers"});           // what differs from it
    const auto loaded = vmcow::Value<std::uint64_t[]>::load(folder / "changes");  // mapped, not read
    fmt::print("loaded: {}, bytes that differ: {}, file of the changes: {} KiB\n", loaded[500'000],
               vmcow::diff(numbers, loaded).changed_bytes, std::filesystem::file_size(folder / "changes") / 1024);

    auto saving = both.save_async(folder / "later");  // goes on in a thread
    both.edit([](auto all) { all[0] = 1; });          // is not in the file
    saving.get();
    fmt::print("saved while it was edited: {}\n", vmcow::Value<std::uint64_t[]>::load(folder / "later")[0]);
}

}  // namespace

// value_program [FOLDER] keeps its files in FOLDER, or in a temporary folder that it removes.
int main(int argc, char** argv) {
    std::error_code ignored;
    const auto temporary = std::filesystem::temp_directory_path(ignored) / fmt::format("vmcow-{}", ::getpid());
    int status = 1;
    try {
        if (argc < 2) std::filesystem::create_directory(temporary);
        run(argc < 2 ? temporary : argv[1]);
        if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");
        status = 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "value_program: %s\n", error.what()));
    }
    if (argc < 2) std::filesystem::remove_all(temporary, ignored);
    return status;
}
