#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

// The parts of random programs that every engine must run alike. See tests/README.md.

namespace equivalence {

/// The operations on a document. A document is the object of a program's variable: two lists, a slice, two strings, two
/// maps, an ordered map and two sets.
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
    list_moved,
    concat_slice,
    slice,
    slice_set,
    slice_update,
    slice_push,
    slice_pop,
    slice_insert,
    slice_remove,
    slice_concat,
    slice_concat_self,
    slice_compare,
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

/// How the operand is passed: as an rvalue; as an lvalue, which stays as it is and is then assigned; or changed in
/// place, where its family has such an operation.
enum class Form : std::uint8_t { moved, kept, in_place };
inline constexpr int kForms = static_cast<int>(Form::in_place) + 1;

struct Op {
    Action action = Action::push;
    std::uint8_t which = 0;  ///< which of two lists, strings, maps or sets
    Form form = Form::moved;
    std::uint32_t at = 0;  ///< an index, a key or a count, as the action needs it
    std::int32_t number = 0;

    bool operator==(const Op&) const = default;
};
using Ops = std::vector<Op>;

/// What a program does to its variables.
enum class Verb : std::uint8_t {
    change,          ///< does the operations in place
    share,           ///< `to` becomes a copy of `from`
    move,            ///< `to` becomes `from`, and `from` becomes empty
    renew,           ///< `to` becomes empty
    look,            ///< a function reads `to`
    call,            ///< a function gets `to` by value and does the operations to it
    apply,           ///< `to` becomes the result of a function of `from`, and `from` stays
    apply_last_use,  ///< `to` becomes the result of a function that `to` is moved to
    start_look,      ///< the four started calls run beside the program, on the variable's value at the start
    start_call,
    start_apply,
    start_apply_last_use,
    collect,  ///< waits for a started call, number `from` from the oldest; the result of an apply becomes `to`
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

/// What a program has seen, in order: sizes, elements and refusals.
using Trace = std::vector<long>;

/// Prints the program as C++, to be pasted into a test.
[[nodiscard]] std::string to_cpp(const Program& program);

}  // namespace equivalence
