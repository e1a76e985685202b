#include "bench/value/chain.hpp"

#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

#include "pipes/pipe.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace bench {
namespace {

std::optional<ChainSteps> steps;

void change_step(std::span<std::byte> value, std::size_t step) { steps->change(value.data(), step); }

/// A page and its offset in the value. It goes through the pipe and is kept in this form.
struct PageRecord {
    std::uint64_t offset = 0;
    std::array<std::byte, vmcow::kPageBytes> bytes{};
};
using StepRecord = std::array<PageRecord, ChainSteps::kPagesEach>;
static_assert(sizeof(StepRecord) == ChainSteps::kPagesEach * (sizeof(std::uint64_t) + vmcow::kPageBytes));

/// Runs in the child, so nothing here may wait for a lock that was held at the fork. Returns the exit status.
int send_step(std::byte* heap, std::size_t step, int to) noexcept {
    steps->change(heap, step);
    std::array<std::uint64_t, ChainSteps::kPagesEach> offsets{};
    std::array<iovec, 2 * ChainSteps::kPagesEach> pieces{};
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        offsets[i] = vmcow::round_down(steps->offset(step, i), vmcow::kPageBytes);
        pieces[2 * i] = {&offsets[i], sizeof offsets[i]};
        pieces[2 * i + 1] = {heap + offsets[i], vmcow::kPageBytes};
    }
    // writev sends everything at once, because no signal handler of this program interrupts a child.
    const ssize_t sent = ::writev(to, pieces.data(), static_cast<int>(pieces.size()));
    return sent == static_cast<ssize_t>(sizeof(StepRecord)) ? 0 : 1;
}

/// Runs one step. `record` gets what was on the changed pages before, so that each value of the chain can be restored.
void fork_step(std::vector<std::byte>& heap, std::size_t step, StepRecord& record) {
    pipes::Pipe pipe = pipes::Pipe::open();
    const pid_t child = ::fork();
    if (child < 0) vmcow::sys::throw_errno("fork");
    if (child == 0) ::_exit(send_step(heap.data(), step, pipe.write_end().get()));
    pipe.take_write_end().reset();
    const auto bytes = std::as_writable_bytes(std::span(record));
    const std::size_t received = vmcow::sys::read_full(pipe.read_end().get(), bytes, "the changed pages");
    int status = 0;
    if (vmcow::sys::retry_interrupted([&] { return ::waitpid(child, &status, 0); }) != child || status != 0) {
        throw std::runtime_error("a child failed");
    }
    expect(received == bytes.size(), "pages are missing");
    for (PageRecord& page : record) {
        std::swap_ranges(page.bytes.begin(), page.bytes.end(), heap.begin() + static_cast<std::ptrdiff_t>(page.offset));
    }
}

}  // namespace

void ChainSteps::change(std::byte* value, std::size_t step) const noexcept {
    const std::uint64_t written = word(step);
    for (std::size_t i = 0; i < kPagesEach; ++i) std::memcpy(value + offset(step, i), &written, sizeof written);
}

void set_chain_steps(std::size_t value_bytes) { steps.emplace(value_bytes); }
const ChainSteps& chain_steps() { return *steps; }

void run_apply_chain(procrun::Pool& pool, std::vector<Bytes>& values) {
    for (std::size_t step = 0; step < ChainSteps::kSteps; ++step) {
        auto result = pool.apply(change_step, values.back(), step);
        if (!result.ok()) throw std::runtime_error(result.outcome().describe());
        values.push_back(std::move(result).value());
    }
}

void verify_chain(const std::vector<Bytes>& values) {
    const auto stored = [&](std::size_t value, std::size_t offset) {
        // Read by page: the values need not be mapped for this.
        const vmcow::Snapshot snapshot = values[value].snapshot();
        return word_at(snapshot.page(vmcow::page_at(offset)) + offset % vmcow::kPageBytes);
    };
    std::uint64_t untouched = 0;
    std::memset(&untouched, kFilled, sizeof untouched);
    const bool whole = steps->changed_pages() == ChainSteps::kSteps * ChainSteps::kPagesEach;
    for (std::size_t step = 0; step < ChainSteps::kSteps; ++step) {
        for (std::size_t i = 0; i < ChainSteps::kPagesEach; ++i) {
            const std::size_t offset = steps->offset(step, i);
            expect(stored(step + 1, offset) == ChainSteps::word(step), "a change is missing");
            expect(!whole || stored(step, offset) == untouched, "a value of the chain was changed later");
            expect(!whole || stored(ChainSteps::kSteps, offset) == ChainSteps::word(step), "a change was lost");
        }
    }
}

double run_fork_chain(std::vector<std::byte>& heap) {
    // This memory is touched before the clock starts, as is the memory that values get.
    std::vector<StepRecord> kept(ChainSteps::kSteps);
    const double seconds = seconds_of([&] {
        for (std::size_t step = 0; step < kept.size(); ++step) fork_step(heap, step, kept[step]);
    });
    for (std::size_t step = kept.size(); step-- > 0;) {
        expect(word_at(heap.data() + steps->offset(step, 0)) == ChainSteps::word(step), "a change is missing");
        for (const PageRecord& page : kept[step]) {
            std::memcpy(heap.data() + page.offset, page.bytes.data(), page.bytes.size());
        }
    }
    return seconds;
}

}  // namespace bench
