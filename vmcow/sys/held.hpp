#pragma once

namespace vmcow::sys {

/// Reports a caller's bug and aborts, in every build: `call` was made on an object of class `type` that holds nothing.
[[noreturn]] void used_after_move(const char* type, const char* call) noexcept;

/// What a handle of class `type` points to. The name of the calling function, `call`, stands in the message.
/// Pre: the handle was not moved from.
///
/// All handles (Arena, Snapshot, View, Value, CallFuture) follow this rule: a handle that was moved from holds nothing.
/// It can be assigned to, destroyed, and moved or copied to another handle, which then holds nothing either. Anything
/// else ends the program. A container of vmcow/heap/ that was moved from is empty, and may be used.
template <class Pointer>
[[nodiscard]] auto& held(const Pointer& pointer, const char* type, const char* call = __builtin_FUNCTION()) noexcept {
    if (pointer == nullptr) used_after_move(type, call);
    return *pointer;
}

}  // namespace vmcow::sys
