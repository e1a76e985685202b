#include "tests/equivalence/program.hpp"

#include <fmt/core.h>

#include <array>
#include <iterator>

namespace equivalence {
namespace {

constexpr std::array<const char*, kActions> kActionNames{"push",
                                                         "fill",
                                                         "pop",
                                                         "insert",
                                                         "remove",
                                                         "set",
                                                         "update",
                                                         "reverse",
                                                         "sort",
                                                         "concat_self",
                                                         "concat_other",
                                                         "take",
                                                         "drop",
                                                         "read",
                                                         "iterate",
                                                         "list_from_other",
                                                         "list_moved",
                                                         "concat_slice",
                                                         "slice",
                                                         "slice_set",
                                                         "slice_update",
                                                         "slice_push",
                                                         "slice_pop",
                                                         "slice_insert",
                                                         "slice_remove",
                                                         "slice_concat",
                                                         "slice_concat_self",
                                                         "slice_compare",
                                                         "slice_reverse",
                                                         "slice_sort",
                                                         "slice_cut",
                                                         "slice_to_list",
                                                         "text_concat",
                                                         "text_concat_self",
                                                         "text_substring",
                                                         "text_trim",
                                                         "text_set",
                                                         "text_find",
                                                         "text_from_other",
                                                         "map_set",
                                                         "map_remove",
                                                         "map_update",
                                                         "map_read",
                                                         "map_from_other",
                                                         "ordered_set",
                                                         "ordered_remove",
                                                         "ordered_update",
                                                         "set_insert",
                                                         "set_remove",
                                                         "set_unite",
                                                         "set_intersect",
                                                         "set_subtract",
                                                         "set_from_other",
                                                         "call"};
constexpr std::array<const char*, kForms> kFormNames{"moved", "kept", "in_place"};
constexpr std::array<const char*, kVerbs> kVerbNames{"change",     "share",      "move",        "renew",
                                                     "look",       "call",       "apply",       "apply_last_use",
                                                     "start_look", "start_call", "start_apply", "start_apply_last_use",
                                                     "collect"};

}  // namespace

std::string to_cpp(const Program& program) {
    std::string text = "const Program program{\n";
    const auto out = std::back_inserter(text);
    for (const Step& step : program) {
        fmt::format_to(out, "    {{Verb::{}, {}, {}", kVerbNames[static_cast<std::size_t>(step.verb)], step.to,
                       step.from);
        if (!step.ops.empty()) text += ", {";
        for (const Op& op : step.ops) {
            fmt::format_to(out, "{}{{Action::{}, {}, Form::{}, {}, {}}}", &op == step.ops.data() ? "" : ", ",
                           kActionNames[static_cast<std::size_t>(op.action)], op.which,
                           kFormNames[static_cast<std::size_t>(op.form)], op.at, op.number);
        }
        text += step.ops.empty() ? "},\n" : "}},\n";
    }
    return text + "};\n";
}

}  // namespace equivalence
