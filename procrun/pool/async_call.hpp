#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

#include "procrun/worker/erased_call.hpp"

namespace procrun::detail {

class WorkerHandle;

/// An asynchronous call: it goes on while its caller does something else.
struct AsyncCall {
    enum class State : std::uint8_t { queued, running, done };

    // The mutex guards `state` and `result`. Once the call is done, `result` may be read without it.
    std::mutex mutex;
    std::condition_variable done;
    State state = State::queued;
    ErasedCall call;
    ErasedResult result;
    WorkerHandle* worker = nullptr;
    int attempts = 0;
    /// Called once, when the call is done and its worker is free again, by the thread that has seen the end, without
    /// locks. Must not throw.
    std::function<void()> on_done{};
};

}  // namespace procrun::detail
