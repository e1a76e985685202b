#include "procrun/worker/worker_handle.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <variant>

#include "pipes/pipe.hpp"
#include "procrun/limits/limit_reasons.hpp"
#include "procrun/limits/open_files_limit.hpp"
#include "procrun/process/poll_until.hpp"
#include "procrun/worker/call_clock.hpp"
#include "procrun/worker/static_wait.hpp"
#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/proc/maps.hpp"
#include "vmcow/sys/process/pidfd.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// The longest time between two looks for a reply. A look costs a microsecond.
constexpr std::chrono::milliseconds kLongestSleep{50};
/// After so many looks, the call may wait for a static variable that will never be there: that is asked then.
constexpr unsigned kLooksBeforeAQuestion = 8;
/// The wait for the end of a worker that may still write to the caller's memory, and for the answer of an idle one.
constexpr std::chrono::milliseconds kPatience{1000};

/// The call memory's file: zeroed, and sealed against a change of its size, so that reading it never raises SIGBUS.
UniqueFd channel_file() {
    UniqueFd fd = vmcow::sys::create_memfd("channel");
    vmcow::sys::resize_memfd(fd.get(), kCallMemoryBytes, "channel");
    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
        vmcow::sys::throw_errno("seal a channel");
    }
    return fd;
}

/// Bounds the socket's waits, so that a worker which does not read, or does not send, cannot hold its caller up: EAGAIN
/// then.
void bound_waits(int socket, std::chrono::milliseconds moment) {
    const timeval longest{.tv_sec = 0, .tv_usec = moment.count() * 1000};
    for (const int which : {SO_SNDTIMEO, SO_RCVTIMEO}) {
        if (::setsockopt(socket, SOL_SOCKET, which, &longest, sizeof(longest)) != 0) {
            vmcow::sys::throw_errno("bound the waits of a message socket");
        }
    }
}

double seconds_between(std::int64_t from_ns, std::int64_t to_ns) noexcept {
    return to_ns > from_ns ? static_cast<double>(to_ns - from_ns) * 1e-9 : 0;
}

}  // namespace

WorkerHandle::WorkerHandle(ZygoteClient& zygote, const PoolOptions& options, Deadline deadline)
    : zygote_(zygote), options_(options), known_images_(options.known_budget) {
    WorkerEnds ends;
    ends.call_memory = channel_file();
    call_memory_.emplace(ends.call_memory.get());
    new (call_memory_->operator->()) CallMemory;
    pipes::Pipe requests = pipes::Pipe::open();
    pipes::Pipe replies = pipes::Pipe::open();
    ends.request_pipe = vmcow::sys::duplicate(requests.read_end().get());
    ends.reply_pipe = replies.take_write_end();
    request_pipe_ = requests.take_write_end();
    request_reader_ = requests.take_read_end();
    reply_pipe_ = replies.take_read_end();
    // A full pipe must hold up neither side: a worker may not read it, and a full pipe has woken its reader already.
    for (const int fd : {request_pipe_.get(), reply_pipe_.get(), ends.reply_pipe.get()}) {
        if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) vmcow::sys::throw_errno("open a doorbell");
    }
    auto [ours, theirs] = pipes::MessageSocket::pair();
    socket_ = std::move(ours);
    ends.socket = theirs.take_fd();
    bound_waits(socket_.fd().get(), kMoment);
    process_ = zygote_.fork_worker(ends, deadline);
    counters_.emplace(process_.pid);
}

WorkerHandle::~WorkerHandle() {
    if (!process_.pidfd || !are_mine()) return;
    end(known_images_.has_moved_but({}) ? kPatience : kMoment);
    zygote_.forget(process_);
}

void WorkerHandle::close_inherited() noexcept {
    request_pipe_.reset();
    request_reader_.reset();
    reply_pipe_.reset();
    socket_ = {};
    process_.pidfd.reset();
}

void WorkerHandle::kill() noexcept {
    if (is_spent()) return;
    delivery_ = Delivery::worker_is_spent;
    static_cast<void>(vmcow::sys::send_signal(process_.pidfd.get(), SIGKILL));
    vmcow::sys::kill_group(process_.pidfd.get());
}

bool WorkerHandle::end(std::chrono::milliseconds longest) noexcept {
    kill();
    return vmcow::sys::wait_for_end(process_.pidfd.get(), longest);
}

bool WorkerHandle::take_if_idle() noexcept {
    WorkerState expected = WorkerState::idle;
    return call_memory()->state.compare_exchange_strong(expected, WorkerState::busy);
}

void WorkerHandle::write_request(const ErasedCall& call) {
    Request request;
    std::uint32_t updates = 0;
    known_images_.drop_unused(socket_, updates);
    std::size_t sent_at = kSentOffset;
    std::array<std::uint16_t, kMaxImages> used{};
    std::size_t used_count = 0;
    for (std::size_t i = 0; i < call.images.size(); ++i) {
        if (call.images[i].is_sent()) {
            request.images[i] = write_sent(call.images[i], sent_at);
            continue;
        }
        request.images[i] = known_images_.find(call.images[i], std::span(used).first(used_count), socket_, updates);
        entries_[i] = used[used_count++] = request.images[i].entry;
    }
    request.updates = static_cast<std::uint16_t>(updates);
    request.image_count = static_cast<std::uint8_t>(call.images.size());
    request.function = call.function;
    request.asked_ns = started_ns_;
    request.count_bytes = call.options.count_bytes;
    request.may_spin = call.may_spin;
    request.limits_files = call.options.limits.open_files.has_value();
    request.limits_processor = call.options.limits.processor_time.has_value();
    request.open_files = call.options.limits.open_files.value_or(0);
    const std::span<const std::byte> arguments = call.arguments.bytes();
    request.argument_bytes = arguments.size();
    if (arguments.size() > (sent_at > kSentOffset ? kSentOffset : kInlineBytes)) {
        request.arguments = Where::file;
        const UniqueFd file = file_of_payload(arguments);
        const int fd = file.get();
        socket_.send(std::as_bytes(std::span(&request.argument_bytes, 1)), std::span(&fd, 1));
    } else {
        const bool small = arguments.size() <= kSmallBytes;
        request.arguments = small ? Where::small : Where::call_memory;
        std::byte* const to = small ? request.small.data() : call_memory_->arguments();
        std::memcpy(to, arguments.data(), arguments.size());
    }
    copy_with_images(call_memory()->request, request, call.images.size());
}

/// Copies the bytes of a small value to offset `at` of the arguments, and moves `at` behind them.
ImageRequest WorkerHandle::write_sent(const ImageArgument& image, std::size_t& at) const noexcept {
    const std::span<const std::byte> bytes = *image.sent->block_bytes();
    ImageRequest request;
    request.is_sent = true;
    request.sent_at = static_cast<std::uint32_t>(at);
    request.extent_bytes = bytes.size();
    request.mode = image.mode;
    request.grows = image.grows;
    if (!bytes.empty()) std::memcpy(call_memory_->arguments() + at, bytes.data(), bytes.size());
    at += vmcow::round_up(bytes.size(), kSentAlignment);
    VMCOW_ASSERT(at <= kInlineBytes && "send_block keeps the values that are sent within the area of the arguments");
    return request;
}

/// Limits the worker's memory by a cgroup. False where there is no delegated cgroup: then the limit is polled.
bool WorkerHandle::limit_by_cgroup(std::uint64_t bytes) {
    if (!options_.use_cgroup) return false;
    if (!std::exchange(asked_for_cgroup_, true)) {
        auto made = MemoryCgroup::make(options_.cgroup_directory);
        auto* const cgroup = std::get_if<MemoryCgroup>(&made);
        if (cgroup != nullptr && cgroup->add(process_.pid) == 0) cgroup_.emplace(std::move(*cgroup));
    }
    if (!cgroup_ || cgroup_->limit(bytes) != 0) return false;
    oom_kills_ = cgroup_->oom_kills().value_or(0);
    return true;
}

void WorkerHandle::watch_limits(const ErasedCall& call) {
    watch_.reset();
    const CallLimits& limits = call.options.limits;
    if (!limits.polled()) return;
    CallLimits polled = limits;
    if (limits.memory_bytes) {
        const bool by_cgroup = limit_by_cgroup(*limits.memory_bytes);
        result_->cost.memory_limit_by = by_cgroup ? MemoryLimitBy::cgroup : MemoryLimitBy::polling;
        if (by_cgroup) polled.memory_bytes.reset();
    }
    std::vector<vmcow::WritableRange> ranges;
    for (std::size_t i = 0; i < call.images.size(); ++i) {
        const ImageArgument& image = call.images[i];
        if (image.mode != ImageMode::by_value && image.mode != ImageMode::apply) continue;
        ranges.push_back({reinterpret_cast<std::uintptr_t>(image.address()), image.mapped_bytes(), {}});
    }
    watch_.emplace(*counters_, polled, std::move(ranges), CallStart::resident);
}

void WorkerHandle::start(ErasedCall& call, ErasedResult& result) {
    VMCOW_ASSERT(is_done() && "a worker has one call at a time");
    VMCOW_ASSERT(call.images.size() <= kMaxImages && "a request has room for kMaxImages images");
    call_ = &call;
    result_ = &result;
    wake_failures_ = 0;
    looks_ = 0;
    done_ns_ = 0;
    // Reading the clock costs a tenth of an empty call: a call that has not waited in the queue starts when it was
    // asked.
    started_ns_ = call.was_queued ? now_ns() : call.asked_ns;
    result.cost.queue_seconds = seconds_between(call.asked_ns, started_ns_);
    try {
        write_request(call);
        watch_limits(call);
    } catch (const std::system_error& error) {
        // The worker's images and what is remembered of them may differ now, so it is ended. A worker that has died, or
        // has closed its end of the socket, has not seen this call.
        const bool unseen =
            has_ended() || error.code() == std::errc::broken_pipe || error.code() == std::errc::connection_reset;
        end(kMoment);
        if (unseen) delivery_ = Delivery::call_was_missed;
        return finish_with(refusal_of(error, "give a call to a function process"));
    } catch (const std::bad_alloc&) {
        end(kMoment);
        return finish_with({OutcomeKind::not_started, ENOMEM, "give a call to a function process"});
    }
    ++number_;
    call_memory()->caller_processor.store(this_processor(), std::memory_order_relaxed);
    // An error is ignored: the next look finds that the worker has ended, or rings again.
    static_cast<void>(ring(call_memory()->request_number, number_, call_memory()->worker_asleep, request_pipe_.get()));
}

void WorkerHandle::spin() {
    if (is_done()) return;
    if (call_memory()->worker_processor.load(std::memory_order_relaxed) == this_processor()) return;
    if (spin_until(call_memory()->reply_number, number_, spin_.ns())) finish_with_reply();
}

bool WorkerHandle::announce_sleep() noexcept {
    return detail::announce_sleep(call_memory()->reply_number, number_, call_memory()->caller_asleep);
}

std::array<pollfd, 2> WorkerHandle::wakers() const noexcept {
    return {pollfd{reply_pipe_.get(), POLLIN, 0}, pollfd{process_.pidfd.get(), POLLIN, 0}};
}

/// Sleeps until the worker rings or ends, or until `latest`. Returns at once if it has replied.
void WorkerHandle::sleep_until(Deadline latest) noexcept {
    if (!announce_sleep()) return;
    std::array<pollfd, 2> wanted = wakers();
    poll_or_sleep(wanted, latest);
}

void WorkerHandle::wait_until_done() {
    spin();
    while (!is_done()) {
        sleep_until(next_look());
        look();
    }
}

bool WorkerHandle::look_before_sleep() {
    look();
    if (!is_done() && !announce_sleep()) look();  // the reply has come between look() and announce_sleep()
    return !is_done();
}

Deadline WorkerHandle::next_look() const {
    const Deadline deadline = call_ == nullptr ? Deadline::never() : call_->options.deadline;
    // A function can overwrite the word that has the worker wake its caller: so no sleep is longer than kLongestSleep.
    const Deadline next = earlier(deadline, Deadline::in(kLongestSleep));
    return watch_ ? earlier(next, watch_->next_look()) : next;
}

bool WorkerHandle::has_ended() const noexcept { return vmcow::sys::has_ended(process_.pidfd.get()); }

WorkerHandle::Progress WorkerHandle::progress_by(Deadline deadline) noexcept {
    static_cast<void>(end_sleep(call_memory()->caller_asleep, reply_pipe_.get()));
    if (has_replied()) return Progress::replied;
    if (has_ended()) return Progress::ended;
    if (deadline.passed()) return Progress::late;
    return wake_again() ? Progress::working : Progress::cannot_be_woken;
}

/// Finishes the call if it is done or has to be ended.
void WorkerHandle::look() {
    if (is_done()) return;
    switch (progress_by(call_->options.deadline)) {
        case Progress::working:
            return end_what_cannot_go_on();
        case Progress::replied:
            return finish_with_reply();
        case Progress::ended:
            return finish_with_death();
        case Progress::late:
            end(kMoment);
            if (has_replied()) return finish_with_reply();
            return finish_with({OutcomeKind::deadline_passed, SIGKILL, {}});
        case Progress::cannot_be_woken:
            end(kMoment);
            note_if_missed();
            return finish_with({OutcomeKind::not_started, wake_error_, "wake a function process"});
    }
}

/// Ends a call that waits for a static variable for ever, or is over a limit.
void WorkerHandle::end_what_cannot_go_on() {
    if (++looks_ % kLooksBeforeAQuestion == 0 && waits_for_static_variable(process_.pid)) {
        end(kMoment);
        return finish_with({OutcomeKind::threw, 0, std::string(kStaticIsNotThere)});
    }
    if (!watch_) return;
    if (std::optional<std::string> reason = watch_->exceeded()) {
        end(kMoment);
        finish_with({OutcomeKind::limit_exceeded, SIGKILL, std::move(*reason)});
    }
}

/// Rings again if the worker has not received its call: the write that was to wake it may have failed. False after the
/// third failure in a row.
bool WorkerHandle::wake_again() noexcept {
    constexpr int kAttempts = 3;
    if (call_memory()->received_number.load(std::memory_order_relaxed) == number_) return true;
    wake_error_ = ring(call_memory()->request_number, number_, call_memory()->worker_asleep, request_pipe_.get());
    wake_failures_ = wake_error_ == 0 ? 0 : wake_failures_ + 1;
    return wake_failures_ < kAttempts;
}

/// Only the number of the call before proves that the worker has not received this one: a function may have overwritten
/// the word by anything else.
void WorkerHandle::note_if_missed() noexcept {
    if (call_memory()->received_number.load() == number_ - 1) delivery_ = Delivery::call_was_missed;
}

void WorkerHandle::cancel() {
    if (is_done()) return;
    end(kMoment);
    finish_with({OutcomeKind::cancelled, SIGKILL, describe(call_memory()->step.load())});
}

/// Finishes the call of a worker that has ended by itself, possibly after its reply.
void WorkerHandle::finish_with_death() {
    delivery_ = Delivery::worker_is_spent;
    // Learning how the worker has ended is worth up to 50 ms past the deadline of the call.
    const auto left = call_->options.deadline.remaining().value_or(kPatience);
    const auto patience = std::clamp<std::chrono::nanoseconds>(left, kMoment, kPatience);
    Outcome outcome = zygote_.end_of(process_, Deadline::in(patience));
    if (has_replied()) return finish_with_reply();
    note_if_missed();
    const std::string step = describe(call_memory()->step.load());
    outcome.text = outcome.kind == OutcomeKind::unknown ? outcome.text + "; it was " + step : step;
    if (cgroup_ && outcome.kind == OutcomeKind::signaled && cgroup_->oom_kills().value_or(0) > oom_kills_) {
        outcome = {OutcomeKind::limit_exceeded, SIGKILL, cgroup_limit_reason(*call_->options.limits.memory_bytes)};
    }
    finish_with(std::move(outcome));
}

void WorkerHandle::finish_with(Outcome outcome) {
    result_->outcome = std::move(outcome);
    if (watch_) {
        for (const std::string& reason : watch_->unknown()) {
            result_->cost.unwatched += (result_->cost.unwatched.empty() ? "" : "; ") + reason;
        }
        if (cgroup_ && result_->cost.memory_limit_by == MemoryLimitBy::cgroup && !is_spent())
            static_cast<void>(cgroup_->limit(std::nullopt));
        watch_.reset();
    }
    if (done_ns_ == 0) done_ns_ = now_ns();
    result_->cost.seconds = seconds_between(call_->asked_ns, done_ns_);
    call_ = nullptr;
    result_ = nullptr;
}

void WorkerHandle::count(const Reply& reply) {
    CallCost& cost = result_->cost;
    done_ns_ = now_ns();
    spin_.record_wait(reply.ran_ns - started_ns_);
    cost.mapping_seconds = seconds_between(started_ns_, reply.mapped_ns);
    cost.running_seconds = seconds_between(reply.mapped_ns, reply.ran_ns);
    cost.returning_seconds = seconds_between(reply.ran_ns, done_ns_);
    if (!reply.counted) return;
    vmcow::PageCount copied;
    vmcow::PageCount refreshed;
    vmcow::PageCount changed;
    std::uint64_t bytes = 0;
    cost.image_costs.resize(call_->images.size());
    for (std::size_t i = 0; i < call_->images.size(); ++i) {
        const ImageReply& said = reply.images[i];
        ImageCost& image = cost.image_costs[i];
        image = {said.path,
                 said.reason,
                 {said.copied_pages},
                 {said.refreshed_pages},
                 {said.changed_pages},
                 {said.resident_pages},
                 said.changed_bytes};
        copied += image.copied;
        refreshed += image.refreshed;
        changed += image.changed;
        bytes += image.changed_bytes;
    }
    cost.copied = copied;
    cost.refreshed = refreshed;
    if (reply.resident_pages > 0) cost.worker_resident = vmcow::PageCount{reply.resident_pages};
    cost.changed = changed;
    if (call_->options.count_bytes) cost.changed_bytes = bytes;
}

void WorkerHandle::finish_with_reply() {
    Reply reply;
    copy_with_images(reply, call_memory()->reply, call_->images.size());
    for (std::size_t i = 0; i < call_->images.size(); ++i) {
        ImageReply& said = reply.images[i];
        if (said.path > CallPath::sent) said.path = CallPath::mapped;
        if (said.reason > PathReason::small) said.reason = PathReason::first_use;
    }
    const bool may_write = std::any_of(call_->images.begin(), call_->images.end(),
                                       [](const ImageArgument& image) { return image.mode == ImageMode::moved; });
    const bool stays = reply.finished && !end(may_write ? kPatience : kMoment);
    try {
        if (stays && may_write) vmcow::sys::throw_error(ETIMEDOUT, "end what the function has left running");
        take_result(reply);
    } catch (const std::system_error& error) {
        end(kMoment);
        finish_with({OutcomeKind::result_lost, error.code().value(), text_of(error)});
    } catch (const std::bad_alloc&) {
        end(kMoment);
        finish_with({OutcomeKind::result_lost, ENOMEM, "take the result"});
    }
}

bool WorkerHandle::unmap_moved(Deadline deadline) noexcept {
    try {
        const std::vector<std::uint64_t> files = known_images_.drop_moved();
        if (!is_spent() && is_told_to_unmap(deadline)) {
            // The worker has unmapped the images that it knows of. Mappings that the function has made itself stand in
            // the kernel's list alone (I3).
            if (!vmcow::sys::maps_writable(process_.pid, files)) return true;
        }
    } catch (const std::exception&) {
        kill();  // out of memory: /proc cannot be read
    }
    end(kPatience);
    return false;
}

bool WorkerHandle::is_told_to_unmap(Deadline deadline) noexcept {
    Request request;
    request.kind = RequestKind::unmap_moved;
    copy_with_images(call_memory()->request, request, 0);
    ++number_;
    static_cast<void>(ring(call_memory()->request_number, number_, call_memory()->worker_asleep, request_pipe_.get()));
    // The worker is idle: if it does not answer, it was stopped, or its memory is corrupt.
    const Deadline patience = earlier(deadline, Deadline::in(kPatience));
    if (spin_until(call_memory()->reply_number, number_, SpinBudget::kMostNs)) return true;
    Progress progress = Progress::working;
    while (progress == Progress::working) {
        sleep_until(earlier(patience, Deadline::in(kLongestSleep)));
        progress = progress_by(patience);
    }
    return progress == Progress::replied;
}

}  // namespace procrun::detail
