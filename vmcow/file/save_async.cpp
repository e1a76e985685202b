#include "vmcow/image_file.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "vmcow/file/save_control.hpp"
#include "vmcow/file/save_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/held.hpp"
#include "vmcow/sys/process/owner_process.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace vmcow {
namespace {

constexpr const char* kType = "vmcow::PendingSave";

}  // namespace

struct PendingSave::State {
    State(Snapshot what, std::filesystem::path where, SaveOptions how)
        : snapshot(std::move(what)), path(std::move(where)), options(std::move(how)) {}

    void run() noexcept {
        try {
            report = save_image(snapshot, path, options, control);
        } catch (...) {
            failure = std::current_exception();
        }
        const std::scoped_lock lock(mutex);
        done = true;
        ended.notify_all();
    }

    Snapshot snapshot;
    std::filesystem::path path;
    SaveOptions options;
    SaveControl control;
    sys::OwnerProcess owner;
    // Both are set before `done` is.
    SaveReport report;
    std::exception_ptr failure;

    std::mutex mutex;
    std::condition_variable ended;
    bool done = false;
    std::thread thread;  // the last member: it uses the others
};

PendingSave::PendingSave(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

PendingSave::PendingSave(PendingSave&& other) noexcept = default;

PendingSave& PendingSave::operator=(PendingSave&& other) noexcept {
    const PendingSave ended(std::exchange(state_, std::move(other.state_)));
    return *this;
}

PendingSave::~PendingSave() {
    if (!state_) return;
    if (!state_->owner.is_this_process()) {
        // The thread is not in this process, and it may have held the mutex at the fork.
        static_cast<void>(state_.release());
        return;
    }
    state_->thread.join();
}

SaveProgress PendingSave::progress() const noexcept { return sys::held(state_, kType).control.progress(); }

bool PendingSave::is_done() const noexcept {
    State& state = sys::held(state_, kType);
    if (!state.owner.is_this_process()) return false;
    const std::scoped_lock lock(state.mutex);
    return state.done;
}

bool PendingSave::wait_for(std::chrono::nanoseconds time) const {
    State& state = sys::held(state_, kType);
    if (!state.owner.is_this_process()) return false;
    // A longer time would overflow the clock.
    constexpr std::chrono::nanoseconds kLongest = std::chrono::hours(24 * 365);
    std::unique_lock lock(state.mutex);
    return state.ended.wait_for(lock, std::min(time, kLongest), [&] { return state.done; });
}

void PendingSave::cancel() noexcept { sys::held(state_, kType).control.cancel(); }

SaveReport PendingSave::get() {
    State& state = sys::held(state_, kType);
    if (!state.owner.is_this_process()) {
        sys::throw_error(ECHILD, "save image '" + state.path.string() + "': another process has begun to");
    }
    state.thread.join();
    const std::unique_ptr<State> ended = std::move(state_);
    if (ended->failure) std::rethrow_exception(ended->failure);
    return ended->report;
}

PendingSave save_image_async(Snapshot snapshot, std::filesystem::path path, SaveOptions options) {
    auto state = std::make_unique<PendingSave::State>(std::move(snapshot), std::move(path), std::move(options));
    state->thread = sys::start_without_signals([&save = *state] { save.run(); });
    return PendingSave(std::move(state));
}

}  // namespace vmcow
