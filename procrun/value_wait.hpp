#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace procrun {

/// What a function stage waits for among the values that it takes and gives: which of several channels its call waits
/// for cannot be seen from outside (StageStates).
enum class ValueWait : std::uint32_t { none, takes, gives };

/// A page that a stage's process shares with the one that looks at it. What stands there is only ever shown.
using SharedValueWait = std::shared_ptr<std::atomic<ValueWait>>;

/// Throws: std::system_error -- ENOMEM. Cost: a page. After fork: parent and child have the same one.
/// Source: mmap(2) MAP_SHARED, MAP_ANONYMOUS.
[[nodiscard]] SharedValueWait make_value_wait();

/// Shows that this thread waits, for as long as it lives.
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
