#include "vmcow/value/edit_room.hpp"

#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "vmcow/image/arena_access.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/sys/process/owner_process.hpp"

namespace vmcow {
namespace {

/// The free rooms. The object is never destroyed: a value may outlive every static object. A forked child leaves the
/// rooms of its parent alone: it may be about to map images at their addresses.
class FreeRooms {
public:
    static FreeRooms& instance() {
        static auto* const rooms = new FreeRooms;
        return *rooms;
    }

    [[nodiscard]] Slot take() {
        const std::scoped_lock lock(mutex_);
        leave_parents();
        if (slots_.empty()) return {};
        Slot slot = std::move(slots_.back());
        slots_.pop_back();
        return slot;
    }

    void give_back(Slot slot) noexcept {
        const std::scoped_lock lock(mutex_);
        leave_parents();
        if (slots_.size() < slots_.capacity()) slots_.push_back(std::move(slot));
    }

private:
    FreeRooms() { slots_.reserve(EditRoom::kMostAtRest); }

    void leave_parents() noexcept {
        if (owner_.has_this_memory()) return;
        for (Slot& slot : slots_) new (&slot) Slot;  // not given back: the slots are the parent's
        slots_.clear();
        owner_ = {};
    }

    std::mutex mutex_;
    sys::OwnerProcess owner_;
    std::vector<Slot> slots_;
};

std::atomic<std::size_t> rooms_in_use{0};

}  // namespace

EditRoom::EditRoom(Slot slot) noexcept : slot_(std::move(slot)) {
    rooms_in_use.fetch_add(1, std::memory_order_relaxed);
}

std::unique_ptr<EditRoom> EditRoom::take() {
    Slot slot = FreeRooms::instance().take();
    if (slot.address() == nullptr) {
        slot = Slot::reserve(kHugeBytes, ArenaOptions{}.reserve_bytes - kHugeBytes);
        if (const int error = sys::map_memory_at(slot.address(), kBytes); error != 0) {
            sys::throw_error(error, "map memory to edit a value in");
        }
    }
    return std::unique_ptr<EditRoom>(new EditRoom(std::move(slot)));
}

EditRoom::~EditRoom() {
    rooms_in_use.fetch_sub(1, std::memory_order_relaxed);
    if (slot_.address() == nullptr) return;
    std::memset(slot_.address(), 0, used_);
    FreeRooms::instance().give_back(std::move(slot_));
}

std::size_t EditRoom::in_use() noexcept { return rooms_in_use.load(std::memory_order_relaxed); }

Arena EditRoom::become_arena(std::size_t extent, const ArenaOptions& options) {
    return ArenaAccess::in_place_of(slot_, extent, options);
}

}  // namespace vmcow
