#pragma once

// How structures within structures are destroyed, however deep they are nested.

namespace vmcow::heap::detail {

/// The beginning of a block with elements. It is used when nothing shares the block any more.
struct Released {
    Released* next = nullptr;
    /// Destroys the elements and gives the memory back.
    void (*end)(Released*) noexcept = nullptr;
};

/// Ends `block`: at once, or, when this call is nested in thirty others, when the outermost of these is done. So a
/// chain of a million nested lists takes no more stack than thirty.
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
        // No address of this process may stay behind in the memory, which may be that of an image.
        const auto end_next = next->end;
        *next = {};
        end_next(next);
    }
    --depth;
}

}  // namespace vmcow::heap::detail
