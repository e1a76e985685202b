#pragma once

#include <atomic>
#include <cerrno>

#include "vmcow/image_file.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// What a save and the thread that watches it share: the one tells how far it is, the other may ask it to stop.
///
/// Threads: any.
class SaveControl {
public:
    /// Notes how much there is to store.
    void begin(PageCount total) noexcept { total_pages_.store(total.value, std::memory_order_relaxed); }
    /// Notes how many pages are stored by now. Throws: std::system_error -- ECANCELED.
    void note_done(PageCount done) {
        done_pages_.store(done.value, std::memory_order_release);
        check();
    }
    /// Throws: std::system_error -- ECANCELED: somebody asked the save to stop.
    void check() const {
        if (cancelled_.load(std::memory_order_relaxed)) sys::throw_error(ECANCELED, "save an image");
    }
    void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }

    [[nodiscard]] SaveProgress progress() const noexcept {
        const PageCount done{done_pages_.load(std::memory_order_acquire)};
        const PageCount total{total_pages_.load(std::memory_order_relaxed)};
        return {done.bytes(), total.bytes()};
    }

private:
    std::atomic<std::uint64_t> done_pages_{0};
    std::atomic<std::uint64_t> total_pages_{0};
    std::atomic<bool> cancelled_{false};
};

}  // namespace vmcow
