#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

// Random programs that every engine must run alike: what they consist of. See tests/README.md.

namespace equivalence {

/// What is done to a document, the object that a program's variables hold: two lists, a slice, two strings, two maps,
/// an ordered map and two sets.
enum class Action : std::uint8_t {
    push,
    fill,
    pop,
    insert,
    remove,
    set,
    update,
    reverse,
    sort,
    concat_self,
    concat_other,
    take,
    drop,
    read,
    iterate,
    list_from_other,
    slice,
    slice_set,
    slice_reverse,
    slice_sort,
    slice_cut,
    slice_to_list,
    text_concat,
    text_concat_self,
    text_substring,
    text_trim,
    text_set,
    text_find,
    text_from_other,
    map_set,
    map_remove,
    map_update,
    map_read,
    map_from_other,
    ordered_set,
    ordered_remove,
    ordered_update,
    set_insert,
    set_remove,
    set_unite,
    set_intersect,
    set_subtract,
    set_from_other,
    call,  ///< a function gets the document by value and does the next few operations to it
};
inline constexpr int kActions = static_cast<int>(Action::call) + 1;

/// How the operand is passed: as an lvalue, which stays as it is and is then assigned, or as an rvalue.
enum class Form : std::uint8_t { moved, kept };

struct Op {
    Action action = Action::push;
    std::uint8_t which = 0;  ///< of two: which list, string, map or set
    Form form = Form::moved;
    std::uint32_t at = 0;  ///< an index, a key or a count: what the action makes of it
    std::int32_t number = 0;

    bool operator==(const Op&) const = default;
};
using Ops = std::vector<Op>;

/// What a program does to its variables.
enum class Verb : std::uint8_t {
    change,          ///< the operations, in place
    share,           ///< `to` becomes a copy of `from`
    move,            ///< `to` becomes `from`, which is empty then
    renew,           ///< `to` is empty then
    look,            ///< a function reads `to`
    call,            ///< a function does the operations to `to`, which it has by value
    apply,           ///< `to` becomes what a function makes of `from`, which stays
    apply_last_use,  ///< `to` becomes what a function makes of it
    start_look,      ///< these four go on while the program does; on the variable as it is now
    start_call,
    start_apply,
    start_apply_last_use,
    collect,  ///< waits for one of them, the oldest but `from`; what an apply has made becomes `to`
};
inline constexpr int kVerbs = static_cast<int>(Verb::collect) + 1;

inline constexpr std::size_t kVariables = 3;

struct Step {
    Verb verb = Verb::change;
    std::uint8_t to = 0;
    std::uint8_t from = 0;
    Ops ops{};

    bool operator==(const Step&) const = default;
};
using Program = std::vector<Step>;

/// What a program has seen: sizes, elements, refusals, in the order in which it saw them.
using Trace = std::vector<long>;

/// As C++, to be pasted into a test.
[[nodiscard]] std::string to_cpp(const Program& program);

}  // namespace equivalence
