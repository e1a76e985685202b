#pragma once

// How structures that hold structures are given back, however deep they are nested.

namespace vmcow::heap::detail {

/// A block that nobody shares any more; what structures keep their elements in begins with one.
struct Released {
    Released* next = nullptr;
    /// Destroys the elements and gives the memory back.
    void (*end)(Released*) noexcept = nullptr;
};

/// Ends `block`, at once or, when this is called out of too many ends of others, as soon as the first of these is done:
/// a chain of a million nested lists takes no more stack than thirty.
inline void release(Released* block, void (*end)(Released*) noexcept) noexcept {
    constexpr unsigned kDeepest = 30;
    thread_local constinit unsigned depth = 0;
    thread_local constinit Released* waiting = nullptr;
    if (depth == kDeepest) {
        block->end = end;
        block->next = waiting;
        waiting = block;
        return;
    }
    ++depth;
    end(block);
    while (depth == 1 && waiting != nullptr) {
        Released* const next = waiting;
        waiting = next->next;
        // No address of this process stays behind in the memory, which may be an image's.
        const auto end_next = next->end;
        *next = {};
        end_next(next);
    }
    --depth;
}

}  // namespace vmcow::heap::detail
