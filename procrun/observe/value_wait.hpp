#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace procrun {

/// Whether a function stage waits for a value or for a taker of one. The stage shows it itself, because from outside it
/// cannot be seen which of several channels its call waits for (StageStates).
enum class ValueWait : std::uint32_t { none, takes, gives };

/// A page that a stage's process shares with the process that looks at the stage. What it says is only reported.
using SharedValueWait = std::shared_ptr<std::atomic<ValueWait>>;

/// Throws:     std::system_error -- ENOMEM.
/// Cost:       a page.
/// After fork: parent and child have the same page.
/// Source:     mmap(2) MAP_SHARED, MAP_ANONYMOUS.
[[nodiscard]] SharedValueWait make_value_wait();

/// Shows that this thread waits, as long as the object lives.
class ShownWait {
public:
    ShownWait(const SharedValueWait& shown, ValueWait wait) noexcept : shown_(shown.get()) { show(wait); }
    ~ShownWait() { show(ValueWait::none); }
    ShownWait(const ShownWait&) = delete;
    ShownWait& operator=(const ShownWait&) = delete;

private:
    void show(ValueWait wait) noexcept {
        if (shown_ != nullptr) shown_->store(wait, std::memory_order_relaxed);
    }

    std::atomic<ValueWait>* shown_;
};

}  // namespace procrun
