#include "tests/vmcow/meter/watch/watch_actors.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <sstream>
#include <string>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace tests {
namespace {

using vmcow::kHugeBytes;
using vmcow::kPageBytes;
using vmcow::sys::throw_errno;

constexpr useconds_t kPause = 200;
volatile std::byte g_read{};  // keeps the compiler from dropping a read

void check(bool is_well, const char* what) {
    if (!is_well) throw_errno(what);
}

}  // namespace

Actors::Actors(std::size_t pages, Memory memory) : bytes_(pages * kPageBytes) {
    map(memory);
    void* const board = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(board != MAP_FAILED, "mmap");
    board_ = new (board) Board;
    // The first actor touches the region's pages itself, so that this process has none of them.
    const pid_t pid = ::fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        if (memory != Memory::private_file) {
            for (std::size_t i = 0; i < pages; ++i) {
                std::memset(region_ + i * kPageBytes, static_cast<int>(i % 255 + 1), kPageBytes);
            }
        }
        serve(0);
    }
    board_->slots[0].pid = pid;
    tell(0, {});
}

void Actors::map(Memory memory) {
    outer_bytes_ = bytes_ + 2 * kHugeBytes;
    void* const outer = ::mmap(nullptr, outer_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(outer != MAP_FAILED, "mmap");
    outer_ = static_cast<std::byte*>(outer);
    const auto aligned = vmcow::round_up(reinterpret_cast<std::uintptr_t>(outer_) + kPageBytes, kHugeBytes);
    region_ = reinterpret_cast<std::byte*>(aligned);
    vmcow::sys::UniqueFd file;
    int flags = MAP_FIXED | (memory == Memory::shared ? MAP_SHARED : MAP_PRIVATE);
    if (memory == Memory::private_file) {
        file = vmcow::sys::UniqueFd(::memfd_create("actors", MFD_CLOEXEC));
        for (std::size_t i = 0; i * kPageBytes < bytes_; ++i) {
            std::array<std::byte, kPageBytes> page{};
            page.fill(static_cast<std::byte>(i % 255 + 1));
            vmcow::sys::write_all(file.get(), page, "memfd");
        }
    } else {
        flags |= MAP_ANONYMOUS;
    }
    check(::mmap(region_, bytes_, PROT_READ | PROT_WRITE, flags, file.get(), 0) == region_, "mmap");
    if (memory == Memory::small_pages) ::madvise(region_, bytes_, MADV_NOHUGEPAGE);
    if (memory == Memory::huge_pages) ::madvise(region_, bytes_, MADV_HUGEPAGE);
}

Actors::~Actors() {
    for (Slot& slot : board_->slots) {
        if (const pid_t pid = slot.pid.exchange(0); pid > 0) vmcow::sys::signal_process(pid, SIGKILL);
    }
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
    ::munmap(board_, sizeof(Board));
    ::munmap(outer_, outer_bytes_);
}

pid_t Actors::pid(std::size_t actor) const { return board_->slots.at(actor).pid; }

bool Actors::is_huge() const {
    std::istringstream lines(vmcow::sys::read_text_file("/proc/" + std::to_string(pid(0)) + "/smaps"));
    std::ostringstream range;
    range << std::hex << start() << '-' << end() << ' ';
    bool inside = false;
    for (std::string line; std::getline(lines, line);) {
        inside = inside || line.starts_with(range.str());
        if (inside && line.starts_with("AnonHugePages:")) {
            return std::stoull(line.substr(line.find(':') + 1)) * 1024 == bytes_;
        }
    }
    return false;
}

void Actors::tell(std::size_t actor, const Order& order) {
    Slot& slot = board_->slots.at(actor);
    slot.order = order;
    const unsigned number = ++slot.asked;
    while (slot.done != number) ::usleep(kPause);
    if (order.deed == Deed::leave || order.deed == Deed::run) {
        ::usleep(20'000);
        return;
    }
    // The loop that waits for the next order may still fault on the stack after a fork.
    settle(slot);
    if (order.deed == Deed::fork) settle(board_->slots.at(static_cast<std::size_t>(order.value)));
}

void Actors::settle(const Slot& slot) {
    for (const unsigned until = slot.waits + 3; slot.waits < until;) ::usleep(kPause);
}

void Actors::serve(std::size_t actor) {
    Slot& slot = board_->slots.at(actor);
    for (unsigned seen = 0;;) {
        while (slot.asked == seen) {
            ::usleep(kPause);
            ++slot.waits;
        }
        const Order order = slot.order;
        if (order.deed == Deed::leave || order.deed == Deed::run) slot.done = slot.asked.load();
        if (order.deed == Deed::leave) ::_exit(0);
        if (order.deed == Deed::run) ::execlp("sleep", "sleep", "1000", nullptr);
        if (order.deed == Deed::fork) {
            const auto child = static_cast<std::size_t>(order.value);
            const pid_t pid = ::fork();
            if (pid == 0) serve(child);
            board_->slots.at(child).pid = pid;
        } else {
            act(order);
        }
        seen = slot.asked;
        slot.done = seen;
    }
}

void Actors::act(const Order& order) {
    std::byte* const first = region_ + order.first * kPageBytes;
    switch (order.deed) {
        case Deed::drop:
            ::madvise(first, order.count * kPageBytes, MADV_DONTNEED);
            break;
        case Deed::unmap:
            ::munmap(first, order.count * kPageBytes);
            break;
        case Deed::reap:
            check(::wait(nullptr) > 0, "wait");
            break;
        case Deed::seal:
            for (std::size_t i = 0; i < order.count; ++i) {
                check(::mprotect(first + i * order.step * kPageBytes, kPageBytes, PROT_READ) == 0, "mprotect");
            }
            break;
        default:
            touch(order);
    }
}

void Actors::touch(const Order& order) {
    for (std::size_t i = 0; i < order.count; ++i) {
        std::byte* const page = region_ + (order.first + i * order.step) * kPageBytes;
        auto& place = *reinterpret_cast<volatile std::byte*>(page + order.offset);
        if (order.deed == Deed::write) place = static_cast<std::byte>(order.value);
        if (order.deed == Deed::rewrite) place = place;
        if (order.deed == Deed::read) g_read = place;
        if (order.deed == Deed::fill) std::memset(page, order.value, kPageBytes);
    }
}

}  // namespace tests
