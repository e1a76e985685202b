#include "procrun/warm_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <variant>

#include "pipes/pipe.hpp"
#include "procrun/call_clock.hpp"
#include "procrun/poll_until.hpp"
#include "vmcow/layers.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mappings.hpp"
#include "vmcow/sys/memfd.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// Between two looks at a reply. A look costs a microsecond.
constexpr std::chrono::milliseconds kLongestSleep{50};

/// Zeroed, and of a size that the worker cannot change: reading it is never SIGBUS.
UniqueFd channel_file() {
    UniqueFd fd = vmcow::sys::create_memfd("channel");
    vmcow::sys::resize_memfd(fd.get(), kChannelBytes, "channel");
    if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
        vmcow::sys::throw_errno("seal a channel");
    }
    return fd;
}

double seconds_between(std::int64_t from_ns, std::int64_t to_ns) noexcept {
    return to_ns > from_ns ? static_cast<double>(to_ns - from_ns) * 1e-9 : 0;
}

}  // namespace

WarmProcess::WarmProcess(Zygote& zygote, const PoolOptions& options) : zygote_(zygote), options_(options) {
    WorkerEnds ends;
    ends.channel = channel_file();
    channel_.emplace(ends.channel.get());
    new (channel_->operator->()) Channel;
    pipes::Pipe requests = pipes::Pipe::open();
    pipes::Pipe replies = pipes::Pipe::open();
    ends.request_pipe = vmcow::sys::duplicate(requests.read_end().get());
    ends.reply_pipe = replies.take_write_end();
    request_pipe_ = requests.take_write_end();
    request_reader_ = requests.take_read_end();
    reply_pipe_ = replies.take_read_end();
    // A worker that does not read must not hold its caller up, nor one that has been woken up already.
    for (const int fd : {request_pipe_.get(), reply_pipe_.get(), ends.reply_pipe.get()}) {
        if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) vmcow::sys::throw_errno("open a doorbell");
    }
    auto [ours, theirs] = pipes::MessageSocket::pair();
    socket_ = std::move(ours);
    ends.socket = theirs.take_fd();
    process_ = zygote_.fork_worker(ends);
    counters_.emplace(process_.pid);
}

WarmProcess::~WarmProcess() {
    if (process_.pidfd && !spent_) kill();
}

Outcome WarmProcess::kill() noexcept {
    spent_ = true;
    ::syscall(SYS_pidfd_send_signal, process_.pidfd.get(), SIGKILL, nullptr, 0);
    pollfd ended{process_.pidfd.get(), POLLIN, 0};
    while (::poll(&ended, 1, -1) < 0 && errno == EINTR) continue;
    try {
        return zygote_.end_of(process_);
    } catch (const std::exception&) {
        return {OutcomeKind::signaled, SIGKILL, {}};
    }
}

bool WarmProcess::occupy() noexcept {
    WorkerState expected = WorkerState::idle;
    return channel()->state.compare_exchange_strong(expected, WorkerState::busy);
}

void WarmProcess::write_request(const ErasedCall& call, bool& told) {
    Request request;
    std::uint32_t lessons = 0;
    told = true;
    mirror_.forget_ended(socket_, lessons);
    std::uint32_t used = 0;
    for (std::size_t i = 0; i < call.images.size(); ++i) {
        request.images[i] = mirror_.find(call.images[i], used, socket_, lessons);
        entries_[i] = request.images[i].entry;
        used |= 1U << entries_[i];
    }
    request.lessons = static_cast<std::uint8_t>(lessons);
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
    if (arguments.size() > kInlineBytes) {
        request.arguments = Where::file;
        const UniqueFd file = file_of_payload(arguments);
        const int fd = file.get();
        socket_.send(std::as_bytes(std::span(&request.argument_bytes, 1)), std::span(&fd, 1));
    } else {
        const bool small = arguments.size() <= kSmallBytes;
        request.arguments = small ? Where::small : Where::channel;
        std::byte* const to = small ? request.small.data() : channel_->arguments();
        std::memcpy(to, arguments.data(), arguments.size());
    }
    copy_with_images(channel()->request, request, call.images.size());
}

/// False where there is no delegated cgroup: then the limit is polled.
bool WarmProcess::limit_by_cgroup(std::uint64_t bytes) {
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

void WarmProcess::watch_limits(const ErasedCall& call) {
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

void WarmProcess::start(ErasedCall& call, ErasedResult& result) {
    call_ = &call;
    result_ = &result;
    missed_ = false;
    done_ns_ = 0;
    // Looking at the clock costs as much as a tenth of an empty call: whoever has not waited starts when it asks.
    started_ns_ = call.waited ? now_ns() : call.asked_ns;
    result.cost.queue_seconds = seconds_between(call.asked_ns, started_ns_);
    bool told = false;
    try {
        write_request(call, told);
        watch_limits(call);
    } catch (const std::system_error& error) {
        // What it was told and what is remembered of that need not agree any more. One that has died, or has closed its
        // end, has not seen this call.
        missed_ = has_ended() || error.code() == std::errc::broken_pipe || error.code() == std::errc::connection_reset;
        if (told) kill();
        return finish_with(refusal_of(error, "give a call to a function process"));
    } catch (const std::bad_alloc&) {
        kill();
        return finish_with({OutcomeKind::not_started, ENOMEM, "give a call to a function process"});
    }
    ++number_;
    channel()->caller_processor.store(this_processor(), std::memory_order_relaxed);
    // That it has ended is found out by looking.
    static_cast<void>(ring(channel()->request_number, number_, channel()->worker_asleep, request_pipe_.get()));
}

void WarmProcess::spin() {
    if (is_done()) return;
    if (channel()->worker_processor.load(std::memory_order_relaxed) == this_processor()) return;
    if (spin_until(channel()->reply_number, number_, spin_.ns())) finish_with_reply();
}

bool WarmProcess::lie_down() noexcept {
    return detail::lie_down(channel()->reply_number, number_, channel()->caller_asleep);
}

Deadline WarmProcess::next_look() const {
    const Deadline deadline = call_ == nullptr ? Deadline::never() : call_->options.deadline;
    // The word that has the worker wake its caller lies where a function can overwrite it.
    const Deadline next = earlier(deadline, Deadline::in(kLongestSleep));
    return watch_ ? earlier(next, watch_->next_look()) : next;
}

bool WarmProcess::has_ended() const noexcept {
    pollfd ended{process_.pidfd.get(), POLLIN, 0};
    return ::poll(&ended, 1, 0) > 0;
}

void WarmProcess::look() {
    if (is_done()) return;
    static_cast<void>(get_up(channel()->caller_asleep, reply_pipe_.get()));
    if (has_replied()) return finish_with_reply();
    if (has_ended()) return finish_with_death();
    if (call_->options.deadline.passed()) {
        kill();
        if (has_replied()) return finish_with_reply();
        return finish_with({OutcomeKind::deadline_passed, SIGKILL, {}});
    }
    if (!watch_) return;
    if (std::optional<std::string> reason = watch_->exceeded()) {
        kill();
        finish_with({OutcomeKind::limit_exceeded, SIGKILL, std::move(*reason)});
    }
}

void WarmProcess::cancel() {
    if (is_done()) return;
    kill();
    finish_with({OutcomeKind::cancelled, SIGKILL, describe(channel()->step.load())});
}

/// It has ended without being asked to: perhaps after the reply.
void WarmProcess::finish_with_death() {
    Outcome outcome = kill();
    if (has_replied()) return finish_with_reply();
    // Nothing but the number before says that it has not seen this call: what a function has made of the word does not.
    missed_ = channel()->received_number.load() == number_ - 1;
    outcome.text = describe(channel()->step.load());
    if (cgroup_ && outcome.kind == OutcomeKind::signaled && cgroup_->oom_kills().value_or(0) > oom_kills_) {
        outcome = {OutcomeKind::limit_exceeded, SIGKILL, cgroup_limit_reason(*call_->options.limits.memory_bytes)};
    }
    finish_with(std::move(outcome));
}

void WarmProcess::finish_with(Outcome outcome) {
    result_->outcome = std::move(outcome);
    if (watch_) {
        for (const std::string& reason : watch_->unknown()) {
            result_->cost.unwatched += (result_->cost.unwatched.empty() ? "" : "; ") + reason;
        }
        if (cgroup_ && result_->cost.memory_limit_by == MemoryLimitBy::cgroup && !spent_)
            static_cast<void>(cgroup_->limit(std::nullopt));
        watch_.reset();
    }
    if (done_ns_ == 0) done_ns_ = now_ns();
    result_->cost.seconds = seconds_between(call_->asked_ns, done_ns_);
    call_ = nullptr;
    result_ = nullptr;
}

void WarmProcess::count(const Reply& reply) {
    CallCost& cost = result_->cost;
    done_ns_ = now_ns();
    spin_.learn(reply.ran_ns - started_ns_);
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

void WarmProcess::finish_with_reply() {
    Reply reply;
    copy_with_images(reply, channel()->reply, call_->images.size());
    for (std::size_t i = 0; i < call_->images.size(); ++i) {
        ImageReply& said = reply.images[i];
        if (said.path > CallPath::moved) said.path = CallPath::mapped;
        if (said.reason > PathReason::forked) said.reason = PathReason::first_use;
    }
    if (reply.finished) kill();
    try {
        take_result(reply);
    } catch (const std::system_error& error) {
        kill();
        finish_with({OutcomeKind::result_lost, error.code().value(), text_of(error)});
    } catch (const std::bad_alloc&) {
        kill();
        finish_with({OutcomeKind::result_lost, ENOMEM, "take the result"});
    }
}

/// The descriptors of a reply were sent before it, so they are there: a worker that has sent none must not keep its
/// caller waiting.
std::vector<UniqueFd> WarmProcess::take_fds(const Reply& reply) {
    if (reply.fd_count == 0) return {};
    pollfd readable{socket_.fd().get(), POLLIN, 0};
    std::optional<pipes::Message> message;
    if (::poll(&readable, 1, 0) > 0) message = socket_.receive();
    if (!message || message->fds.size() != reply.fd_count) {
        vmcow::sys::throw_error(EBADMSG, "take a result: its descriptors are missing");
    }
    return std::move(message->fds);
}

Payload WarmProcess::payload_of(const Reply& reply, std::vector<UniqueFd>& fds) const {
    if (reply.payload == Where::file) return Payload::of_file(fds, reply.payload_bytes);
    if (reply.payload == Where::small && reply.payload_bytes <= kSmallBytes) {
        return Payload::of_small(std::span(reply.small).first(reply.payload_bytes));
    }
    if (reply.payload_bytes > kInlineBytes) {
        vmcow::sys::throw_error(EBADMSG, "take a result: it is longer than its channel");
    }
    const std::byte* const at = channel_->result();
    return Payload(std::vector<std::byte>(at, at + reply.payload_bytes));
}

void WarmProcess::take_result(const Reply& reply) {
    count(reply);
    std::vector<UniqueFd> fds = take_fds(reply);
    result_->payload.emplace(payload_of(reply, fds));
    const auto text = [&] {
        const std::span<const std::byte> bytes = result_->payload->bytes();
        return std::string(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kMostTextBytes));
    };
    switch (reply.kind) {
        case ReplyKind::returned: {
            const auto over =
                !watch_ ? std::nullopt
                        : watch_->exceeded_at_end(std::chrono::nanoseconds(reply.processor_ns), result_->cost.copied);
            if (over) return finish_with({OutcomeKind::limit_exceeded, 0, *over});
            take_changes(reply, fds);
            result_->fds = std::move(fds);
            return finish_with({OutcomeKind::returned, 0, {}});
        }
        case ReplyKind::threw:
            return finish_with({OutcomeKind::threw, 0, text()});
        case ReplyKind::out_of_descriptors:
            return finish_with(
                {OutcomeKind::limit_exceeded, EMFILE,
                 OpenFilesLimit::reason(call_->options.limits.open_files.value_or(0)) + " (" + text() + ")"});
        case ReplyKind::failed: {
            const bool ran = reply.step >= CallStep::running;
            // Descriptors that an earlier function has closed or used up: the call has not run, and another worker has
            // them.
            missed_ = !ran && (reply.error == EBADF || reply.error == EMFILE || reply.error == ENOTSOCK);
            kill();  // what it knows of images is no longer what is remembered here
            return finish_with({ran ? OutcomeKind::result_lost : OutcomeKind::not_started, reply.error,
                                std::string("function process ") + describe(reply.step)});
        }
    }
    vmcow::sys::throw_error(EBADMSG, "take a result: it is of no known kind");
}

/// How long an image says to have become. Pre: it had `before` bytes and may have `most`.
std::uint64_t WarmProcess::checked_extent(std::uint64_t said, std::uint64_t before, std::uint64_t most) {
    if (said >= before && said <= most) return said;
    vmcow::sys::throw_error(EBADMSG, "take changed pages: the image cannot have become so long");
}

vmcow::Snapshot WarmProcess::changed_snapshot(const vmcow::Snapshot& before, std::uint64_t extent_bytes,
                                              const Reply& reply, std::vector<UniqueFd>& fds) const {
    if (reply.changes == Where::nowhere && extent_bytes == before.extent_bytes()) return before;
    const vmcow::Layers& layers = *before.layers();
    const vmcow::PageCount count{reply.changes == Where::nowhere ? 0 : reply.change_count};
    const vmcow::PageCount image_pages =
        std::max(vmcow::pages_of(layers.mapped_bytes()), vmcow::pages_of(extent_bytes));
    if (reply.changes == Where::file) {
        if (fds.empty()) vmcow::sys::throw_error(EBADMSG, "take changed pages: no descriptor");
        const auto delta = vmcow::Delta::adopt(std::move(fds.back()), count, image_pages);
        fds.pop_back();
        return vmcow::Snapshot(layers.with_delta(delta, extent_bytes));
    }
    if (count > kOutboxPages || count > image_pages) {
        vmcow::sys::throw_error(EBADMSG, "take changed pages: more than there can be");
    }
    const std::byte* const outbox = channel_->outbox();
    const auto pages = vmcow::Delta::checked_table(channel_->outbox_table(), count, image_pages);
    return vmcow::Snapshot(layers.with_changes(
        pages, [&](std::size_t i) { return outbox + i * vmcow::kPageBytes; }, vmcow::Delta::stored_copy_of,
        extent_bytes));
}

void WarmProcess::take_changes(const Reply& reply, std::vector<UniqueFd>& fds) {
    for (std::size_t i = 0; i < call_->images.size(); ++i) {
        ImageArgument& image = call_->images[i];
        if (image.mode == ImageMode::apply) {
            const std::uint64_t before = image.snapshot->extent_bytes();
            const std::uint64_t extent =
                checked_extent(reply.images[i].extent_bytes, before, before + (image.grows ? kGrowthRoom : 0));
            result_->applied.emplace(changed_snapshot(*image.snapshot, extent, reply, fds));
            result_->part = image.part;
            mirror_.note_result(entries_[i], *result_->applied);
        } else if (image.mode == ImageMode::moved) {
            const std::uint64_t before = image.moved->extent_bytes();
            image.moved->set_extent(checked_extent(reply.images[i].extent_bytes, before,
                                                   image.grows ? image.moved->mapped_bytes() : before));
            result_->moved_back = std::move(image.moved);
        }
    }
}

bool WarmProcess::let_go() {
    const std::vector<std::uint64_t> files = mirror_.forget_moved();
    if (spent_) return true;
    Request request;
    request.kind = RequestKind::let_go;
    copy_with_images(channel()->request, request, 0);
    ++number_;
    static_cast<void>(ring(channel()->request_number, number_, channel()->worker_asleep, request_pipe_.get()));
    // It does nothing else meanwhile; one that does not answer has been stopped or has lost its wits.
    const Deadline patience = Deadline::in(std::chrono::seconds(1));
    while (!has_replied()) {
        if (spin_until(channel()->reply_number, number_, SpinBudget::kMostNs) || !lie_down()) break;
        std::array<pollfd, 2> wanted{pollfd{reply_fd(), POLLIN, 0}, pollfd{pidfd(), POLLIN, 0}};
        poll_until(wanted, earlier(patience, Deadline::in(kLongestSleep)), "wait for a function process");
        static_cast<void>(get_up(channel()->caller_asleep, reply_pipe_.get()));
        if (has_replied()) break;
        if (patience.passed() || wanted[1].revents != 0) {
            kill();
            return false;
        }
    }
    // It has unmapped what it knows of. What the function has mapped besides is found in the kernel's list alone (I3).
    if (!vmcow::sys::maps_writable(process_.pid, files)) return true;
    kill();
    return false;
}

}  // namespace procrun::detail
