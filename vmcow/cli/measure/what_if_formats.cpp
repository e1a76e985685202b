#include "vmcow/cli/measure/what_if_formats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "vmcow/cli/kit/human.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::cli {
namespace {

using Json = nlohmann::ordered_json;
using meter::WhatIf;
using meter::WhatIfBlock;

template <class Value>
Json or_null(const std::optional<Value>& value) {
    return value ? Json(*value) : Json();
}

std::string block_size(std::uint64_t bytes) {
    if (bytes >= (1 << 20)) return fmt::format("{} MiB", bytes >> 20);
    if (bytes >= (1 << 10)) return fmt::format("{} KiB", bytes >> 10);
    return fmt::format("{} B", bytes);
}

std::string real_bytes(double bytes) { return human_bytes(static_cast<std::uint64_t>(std::llround(bytes))); }

/// What the model expects, with the deviation in percent: in bytes it would often have another unit.
std::string model(const WhatIfBlock& block) {
    if (!block.expected_bytes) return "?";
    const std::string bytes = real_bytes(*block.expected_bytes);
    if (!block.sigma_bytes) return bytes + " ± ?";
    if (*block.sigma_bytes <= 0 || *block.expected_bytes <= 0) return bytes + " exactly";
    return fmt::format("{} ± {:.2g} %", bytes, 100 * *block.sigma_bytes / *block.expected_bytes);
}

}  // namespace

Json what_if_json(const WhatIf& what_if) {
    Json blocks = Json::array();
    for (const WhatIfBlock& block : what_if.blocks) {
        blocks.push_back({{"block_bytes", block.block_bytes},
                          {"copied_bytes", block.copied_bytes},
                          {"amplification", or_null(block.amplification)},
                          {"overhead_bytes", block.overhead_bytes},
                          {"total_bytes", block.total_bytes()},
                          {"expected_bytes", or_null(block.expected_bytes)},
                          {"sigma_bytes", or_null(block.sigma_bytes)},
                          {"children_copied_bytes", or_null(block.children_copied_bytes)}});
    }
    return blocks;
}

Json best_block_json(const WhatIf& what_if) { return or_null(what_if.best_block_bytes); }

std::string what_if_text(const WhatIf& what_if, std::uint64_t children) {
    std::string text = fmt::format("  {:>9}  {:>11}  {:>9}  {:>11}  {:>11}  {:<24}", "block", "copied", "amplif.",
                                   "table", "together", "model of copied");
    if (children > 1) text += fmt::format("  {:>13}", fmt::format("{} children", children));
    text += '\n';
    for (const WhatIfBlock& block : what_if.blocks) {
        const bool best = what_if.best_block_bytes == block.block_bytes;
        text += fmt::format("{} {:>9}  {:>11}  {:>9}  {:>11}  {:>11}  {:<24}", best ? '*' : ' ',
                            block_size(block.block_bytes), human_bytes(block.copied_bytes),
                            block.amplification ? fmt::format("{:.4g}", *block.amplification) : "?",
                            human_bytes(block.overhead_bytes), human_bytes(block.total_bytes()), model(block));
        if (block.children_copied_bytes) text += fmt::format("  {:>13}", human_bytes(*block.children_copied_bytes));
        while (text.back() == ' ') text.pop_back();
        text += '\n';
    }
    if (what_if.best_block_bytes) {
        text += fmt::format("* the least together{}; the table that finds blocks is copied in pieces of 512 pointers\n",
                            children > 1 ? fmt::format(", for {} children", children) : "");
    }
    return text;
}

std::string best_block_text(const WhatIf& what_if) {
    VMCOW_ASSERT(what_if.best_block_bytes.has_value() && "something has changed, so there is a best block");
    const auto with = [&](std::uint64_t block_bytes) {
        const auto& blocks = what_if.blocks;
        return std::find_if(blocks.begin(), blocks.end(),
                            [&](const WhatIfBlock& block) { return block.block_bytes == block_bytes; });
    };
    const auto best = with(*what_if.best_block_bytes);
    const auto page = with(kPageBytes);
    return fmt::format("what if: blocks of {} would have copied the least, {} and {} of tables; pages {} and {}\n",
                       block_size(best->block_bytes), human_bytes(best->copied_bytes),
                       human_bytes(best->overhead_bytes), human_bytes(page->copied_bytes),
                       human_bytes(page->overhead_bytes));
}

}  // namespace vmcow::cli
