#include "procrun/worker/worker_main.hpp"

#include <cxxabi.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <stdio_ext.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "pipes/channel/message_codec.hpp"
#include "pipes/message_socket.hpp"
#include "procrun/call/payload.hpp"
#include "procrun/limits/open_files_limit.hpp"
#include "procrun/worker/call_clock.hpp"
#include "procrun/worker/call_memory.hpp"
#include "procrun/worker/doorbell.hpp"
#include "procrun/worker/left_behind.hpp"
#include "procrun/worker/sent_image.hpp"
#include "procrun/worker/static_wait.hpp"
#include "procrun/worker/worker_call.hpp"
#include "procrun/worker/worker_images.hpp"
#include "vmcow/image/resident_view.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// The exit status of a worker that cannot go on: its descriptors or mappings are gone, or its function has left
/// something running.
constexpr int kCannotGoOn = 125;

/// The bounds of how many wake-ups on the caller's processor a worker takes before it moves away.
constexpr unsigned kLeastPatience = 2;
constexpr unsigned kMostPatience = 64;

/// Moves a descriptor to a high number, which a function that closes files by number is unlikely to hit.
UniqueFd out_of_the_way(UniqueFd fd) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlim_t top = std::min<rlim_t>(limit.rlim_cur, 1024);
    const int high = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, static_cast<int>(top > 32 ? top - 16 : 3));
    return high < 0 ? std::move(fd) : UniqueFd(high);
}

/// The page faults so far. Where the kernel does not say, a new number each time, because there may have been faults
/// since the last.
std::uint64_t faults_so_far() noexcept {
    static std::uint64_t unknown = std::uint64_t{1} << 63;
    rusage usage{};
    if (::getrusage(__libc_single_threaded != 0 ? RUSAGE_THREAD : RUSAGE_SELF, &usage) != 0) return ++unknown;
    return static_cast<std::uint64_t>(usage.ru_minflt) + static_cast<std::uint64_t>(usage.ru_majflt);
}

std::int64_t processor_ns() noexcept {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

/// Whether the stream has a buffer of its own instead of writing to stdio at once, as after
/// std::ios::sync_with_stdio(false). The type of each buffer is asked once: flushing without need costs a tenth of an
/// empty call.
bool has_own_buffer(const std::ostream& stream) {
    static const std::streambuf* known = nullptr;
    static bool own = false;
    if (stream.rdbuf() != known) {
        known = stream.rdbuf();
        own = dynamic_cast<const std::filebuf*>(known) != nullptr;
    }
    return own;
}

/// Writes out what the function has printed, because this process may be killed at any time.
/// Throws: std::system_error -- the errno of the write, EIO where it is not known; also for a write that has failed
///         earlier, whose output stdio has dropped.
void flush_output() {
    if (has_own_buffer(std::cout)) std::cout.flush();
    const bool pending = __fpending(stdout) != 0 || __fpending(stderr) != 0;
    const bool failed = ::ferror_unlocked(stdout) != 0 || ::ferror_unlocked(stderr) != 0 || !std::cout;
    if (!pending && !failed) return;
    errno = 0;
    if (!failed && std::fflush(stdout) == 0 && std::fflush(stderr) == 0) return;
    const int error = errno != 0 ? errno : EIO;
    for (std::FILE* const file : {stdout, stderr}) {
        __fpurge(file);
        std::clearerr(file);
    }
    std::cout.clear();
    vmcow::sys::throw_error(error, "write what the function has printed");
}

/// How much of a small value differs after a call.
struct SentChanges {
    std::uint64_t pages = 0;
    std::uint64_t bytes = 0;
};

/// Pre: `after` is not shorter.
SentChanges changes_of(std::span<const std::byte> before, std::span<const std::byte> after, bool count_bytes) noexcept {
    VMCOW_ASSERT(after.size() >= before.size() && "a value that is sent does not become shorter");
    SentChanges changes;
    for (std::size_t at = 0; at < after.size(); at += vmcow::kPageBytes) {
        const auto page = after.subspan(at, std::min(after.size() - at, vmcow::kPageBytes));
        const auto there = before.subspan(std::min(at, before.size()));
        const auto was = there.first(std::min(there.size(), page.size()));
        const bool same = was.size() == page.size() && std::memcmp(was.data(), page.data(), page.size()) == 0;
        if (same) continue;
        changes.pages += 1;
        if (!count_bytes) continue;
        changes.bytes += page.size() - was.size();
        for (std::size_t i = 0; i < was.size(); ++i) changes.bytes += page[i] != was[i] ? 1U : 0U;
    }
    return changes;
}

class Worker {
public:
    Worker(WorkerEnds ends, const WorkerConfig& config)
        : config_(config),
          ends_(std::move(ends)),
          socket_(out_of_the_way(std::move(ends_.socket))),
          request_pipe_(out_of_the_way(std::move(ends_.request_pipe))),
          reply_pipe_(out_of_the_way(std::move(ends_.reply_pipe))),
          call_memory_(ends_.call_memory.get()),
          images_(config.costs, config.resident_budget) {
        ends_.call_memory.reset();
    }

    int run() {
        for (std::uint64_t number = kFirstNumber + 1;; ++number) {
            if (const std::optional<int> status = wait_for(number)) return *status;
            serve(number);
        }
    }

    /// Replies in place of a function that can neither go on nor return. The process has to end after this.
    void end_call(std::string_view why) noexcept {
        fds_.clear();
        reply_.kind = ReplyKind::threw;
        reply_.finished = true;
        put_inline(std::as_bytes(std::span(why.substr(0, kMostTextBytes))));
        send(number_);
    }

private:
    void step(CallStep at) {
        call_memory_->step.store(at, std::memory_order_relaxed);
        if (config_.at_step != nullptr) config_.at_step(at);
    }

    // ---- waiting

    /// Waits for request `number`: nullopt once it has come, otherwise the exit status to end with.
    std::optional<int> wait_for(std::uint64_t number) {
        const std::uint32_t here = say_where();
        idle_since_ns_ = now_ns();
        if (may_spin_ && call_memory_->caller_processor.load(std::memory_order_relaxed) != here &&
            spin_until(call_memory_->request_number, number, spin_.ns())) {
            patience_ = kLeastPatience;
            return std::nullopt;
        }
        if (!images_.are_mapped()) return kCannotGoOn;
        step(CallStep::idle);
        const auto idle_ms = std::chrono::ceil<std::chrono::milliseconds>(config_.idle_time).count();
        const int timeout = static_cast<int>(std::clamp<std::int64_t>(idle_ms, 1, std::numeric_limits<int>::max()));
        while (announce_sleep(call_memory_->request_number, number, call_memory_->worker_asleep)) {
            pollfd wanted{request_pipe_.get(), POLLIN, 0};
            const int ready = ::poll(&wanted, 1, timeout);
            if (ready < 0 && errno != EINTR) return kCannotGoOn;
            if (ready == 0) {
                WorkerState expected = WorkerState::idle;
                if (call_memory_->state.compare_exchange_strong(expected, WorkerState::retired)) return 0;
                continue;
            }
            if (ready > 0 && !end_sleep(call_memory_->worker_asleep, request_pipe_.get())) {
                return (wanted.revents & POLLNVAL) != 0 ? kCannotGoOn : 0;  // the caller is gone
            }
        }
        leave_the_callers_processor();
        return std::nullopt;
    }

    /// Tells the caller this worker's processor, and returns it. The word is written only when it has changed, because
    /// the caller reads it at each call.
    std::uint32_t say_where() {
        const std::uint32_t here = this_processor();
        if (call_memory_->worker_processor.load(std::memory_order_relaxed) != here) {
            call_memory_->worker_processor.store(here, std::memory_order_relaxed);
        }
        return here;
    }

    /// Moves this worker to another processor if it runs on its caller's. The kernel often puts a process that a pipe
    /// has woken on the waker's processor, where the two can only take turns. Narrowing the affinity to the other
    /// processors for a moment moves it. That costs more than a call, so it is done ever less often until spinning has
    /// paid again.
    void leave_the_callers_processor() {
        const std::uint32_t here = this_processor();
        if (!may_spin_ || call_memory_->caller_processor.load(std::memory_order_relaxed) != here) return;
        if (++same_processor_ < patience_) return;
        same_processor_ = 0;
        patience_ = std::min(patience_ * 2, kMostPatience);
        cpu_set_t all;
        if (::sched_getaffinity(0, sizeof(all), &all) != 0 || CPU_COUNT(&all) < 2) return;
        cpu_set_t others = all;
        CPU_CLR(here, &others);
        if (::sched_setaffinity(0, sizeof(others), &others) == 0) ::sched_setaffinity(0, sizeof(all), &all);
    }

    // ---- one request

    void serve(std::uint64_t number) {
        number_ = number;
        // The copy comes first: from here on the request in the call memory may be overwritten.
        copy_with_images(request_, call_memory_->request, call_memory_->request.image_count);
        request_.image_count = std::min<std::uint8_t>(request_.image_count, kMaxImages);
        may_spin_ = request_.may_spin;
        spin_.record_wait(request_.asked_ns - idle_since_ns_);
        call_memory_->received_number.store(number, std::memory_order_relaxed);
        copy_with_images(reply_, Reply{}, request_.image_count);
        step(CallStep::received);
        fds_.clear();
        if (request_.kind == RequestKind::unmap_moved) {
            images_.unmap_moved();
        } else {
            call();
        }
        send(number);
        if (request_.kind != RequestKind::call) return;
        // If the next request has come by now, its caller finds this process gone and asks another worker.
        if (!gives_memory_back() && has_left_something()) ::_exit(kCannotGoOn);
        refresh();
    }

    void call() {
        CallStep at = CallStep::mapping;
        try {
            step(at);
            for (std::uint32_t i = 0; i < request_.updates; ++i) images_.apply_update(receive());
            bool watched = false;
            sends_back_ = false;
            for (std::size_t i = 0; i < request_.image_count; ++i) {
                arguments_[i] = {};
                if (request_.images[i].is_sent) {
                    prepare_sent(i);
                    continue;
                }
                const auto prepared = images_.prepare(request_.images[i], reply_.images[i]);
                const std::size_t skip = request_.images[i].skip;
                arguments_[i].data = prepared.data + skip;
                arguments_[i].extent_bytes = prepared.extent_bytes - skip;
                arguments_[i].view = prepared.view;
                arguments_[i].capacity = prepared.capacity;
                watched = watched || prepared.view != nullptr;
            }
            step(CallStep::mapped);
            step(at = CallStep::reading);
            const Payload payload = arguments();
            if (request_.limits_processor) processor_before_ = processor_ns();
            const std::uint64_t faults = watched ? faults_so_far() : 0;
            reply_.mapped_ns = now_ns();
            run(payload.bytes());
            reply_.ran_ns = now_ns();
            step(CallStep::ran);
            reply_.finished = gives_memory_back() && has_left_something();
            reply_.counted = true;
            for (std::size_t i = 0; i < request_.image_count; ++i) {
                reply_.images[i].extent_bytes = arguments_[i].extent_bytes + request_.images[i].skip;
            }
            if (watched || sends_back_) {
                step(at = CallStep::comparing);
                compare(watched && faults_so_far() != faults);
            }
        } catch (const std::system_error& error) {
            reply_.kind = ReplyKind::failed;
            reply_.error = error.code().value();
            reply_.step = at;
            reply_.payload = Where::nowhere;
        } catch (const std::bad_alloc&) {
            reply_.kind = ReplyKind::failed;
            reply_.error = ENOMEM;
            reply_.step = at;
            reply_.payload = Where::nowhere;
        }
    }

    /// The bytes of a value that came with the request.
    [[nodiscard]] std::span<const std::byte> sent_bytes(const ImageRequest& request) const {
        const std::size_t at = std::min<std::size_t>(request.sent_at, kInlineBytes);
        return {call_memory_.arguments() + at, std::min<std::size_t>(request.extent_bytes, kInlineBytes - at)};
    }

    void prepare_sent(std::size_t i) {
        const ImageRequest& request = request_.images[i];
        const std::span<const std::byte> bytes = sent_bytes(request);
        arguments_[i].data = sent_[i].load(bytes);
        arguments_[i].extent_bytes = bytes.size();
        arguments_[i].sent = &sent_[i];
        reply_.images[i].path = CallPath::sent;
        reply_.images[i].reason = PathReason::small;
        sends_back_ = sends_back_ || request.mode != ImageMode::read_only;
    }

    pipes::Message receive() {
        std::optional<pipes::Message> message = socket_.receive();
        if (!message) vmcow::sys::throw_error(EPIPE, "receive from the caller");
        return std::move(*message);
    }

    Payload arguments() {
        if (request_.arguments == Where::small) {
            const std::size_t bytes = std::min<std::size_t>(request_.argument_bytes, kSmallBytes);
            return Payload::of_small(std::span(request_.small).first(bytes));
        }
        if (request_.arguments == Where::file) {
            pipes::Message message = receive();
            return Payload::of_file(message.fds, request_.argument_bytes);
        }
        const std::size_t bytes = std::min<std::size_t>(request_.argument_bytes, kInlineBytes);
        return Payload(std::vector<std::byte>(call_memory_.arguments(), call_memory_.arguments() + bytes));
    }

    /// Runs the function, and puts its result, or the text of what it throws, into the reply.
    void run(std::span<const std::byte> argument_bytes) {
        WorkerCall call(pipes::MessageReader(argument_bytes, {}), arguments_);
        std::string thrown;
        std::optional<OpenFilesLimit> files;
        if (request_.limits_files) files.emplace(request_.open_files);
        try {
            try {
                step(CallStep::running);
                request_.function(call);
                files.reset();
                flush_output();
                put_payload(call.result());
                return;
            } catch (const std::system_error& error) {
                const bool limited = files && files->is_reason_of(error);
                reply_.kind = limited ? ReplyKind::out_of_descriptors : ReplyKind::threw;
                thrown = error.what();
            }
        } catch (const std::exception& error) {
            reply_.kind = ReplyKind::threw;
            thrown = error.what();
        } catch (...) {
            reply_.kind = ReplyKind::threw;
            thrown = kUnknownException;
        }
        fds_.clear();
        try {
            flush_output();  // so that output of this call does not appear during the next one
        } catch (const std::system_error&) {
            thrown += "; and what it has printed cannot be written";
        }
        const std::string_view text = std::string_view(thrown).substr(0, kMostTextBytes);
        put_inline(std::as_bytes(std::span(text)));
    }

    void put_inline(std::span<const std::byte> bytes) noexcept {
        const bool small = bytes.size() <= kSmallBytes;
        std::byte* const to = small ? reply_.small.data() : call_memory_.result();
        if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
        reply_.payload = small ? Where::small : Where::call_memory;
        reply_.payload_bytes = bytes.size();
    }

    void put_payload(const pipes::MessageWriter& writer) {
        for (const int fd : writer.fds()) fds_.push_back(vmcow::sys::duplicate(fd));
        // Values that were sent come back behind the result, from kSentOffset on.
        const std::size_t most = sends_back_ ? kSentOffset : kInlineBytes;
        if (writer.bytes().size() <= most) return put_inline(writer.bytes());
        fds_.insert(fds_.begin(), file_of_payload(writer.bytes()));
        reply_.payload = Where::file;
        reply_.payload_bytes = writer.bytes().size();
    }

    /// Whether the reply gives the caller memory back that it shares with this process: no thread or process of the
    /// function may write to it after the reply (I3).
    [[nodiscard]] bool gives_memory_back() const {
        const auto images = std::span(request_.images).first(request_.image_count);
        return std::any_of(images.begin(), images.end(),
                           [](const auto& each) { return each.mode == ImageMode::moved; });
    }

    /// Whether the function has left threads or processes running. The next call must not run beside them, and they
    /// must not keep this process's memory and descriptors. Asking costs a fifth of an empty call, so it is done after
    /// the reply where possible.
    [[nodiscard]] bool has_left_something() const { return left_behind_.has_threads() || left_behind_.has_children(); }

    // ---- changes

    void compare(bool faulted) {
        if (!scanner_) scanner_.emplace();
        outbox_pages_ = 0;
        std::size_t sent_back_at = kSentOffset;
        for (std::size_t i = 0; i < request_.image_count; ++i) {
            if (request_.images[i].is_sent) {
                compare_sent(i, sent_back_at);
                continue;
            }
            vmcow::ResidentView* const view = images_.view_of(request_.images[i]);
            if (view == nullptr) continue;
            view->find_changes(*scanner_, faulted);
            ImageReply& reply = reply_.images[i];
            reply.copied_pages = view->copied().value;
            reply.changed_pages = view->changed().size();
            reply.resident_pages = view->resident().value;
            if (request_.count_bytes) reply.changed_bytes = view->changed_bytes();
            if (request_.images[i].mode == ImageMode::apply && reply_.kind == ReplyKind::returned) {
                write_out(*view, reply);
            }
        }
        reply_.resident_pages = images_.resident(request_).value;
    }

    /// Counts what the function has changed in a value that was sent. A changed one goes back as a whole: to offset
    /// `at` of the result, which is moved behind it, or in a file.
    void compare_sent(std::size_t i, std::size_t& at) {
        const ImageRequest& request = request_.images[i];
        if (request.mode == ImageMode::read_only) return;
        const std::span<const std::byte> before = sent_bytes(request);
        const std::span<const std::byte> after(arguments_[i].data, arguments_[i].extent_bytes);
        ImageReply& reply = reply_.images[i];
        const SentChanges changes = changes_of(before, after, request_.count_bytes);
        reply.changed_pages = changes.pages;  // the kernel has copied none
        reply.changed_bytes = changes.bytes;
        if (changes.pages == 0 || request.mode != ImageMode::apply || reply_.kind != ReplyKind::returned) return;
        step(CallStep::writing_out);
        if (after.size() <= kInlineBytes - at) {
            std::memcpy(call_memory_.result() + at, after.data(), after.size());
            reply.sent_at = static_cast<std::uint32_t>(at);
            reply.changes = Where::call_memory;
            at += vmcow::round_up(after.size(), kSentAlignment);
            return;
        }
        const std::size_t whole = vmcow::round_up(after.size(), vmcow::kPageBytes);  // zeros behind it
        sent_[i].extend(whole);
        fds_.push_back(file_of_payload({after.data(), whole}));
        reply.changes = Where::file;
    }

    /// Writes an image's changed pages into the outbox, behind those of other images, or into a file.
    void write_out(vmcow::ResidentView& view, ImageReply& reply) {
        step(CallStep::writing_out);
        const std::span<const vmcow::PageIndex> changed = view.changed();
        reply.change_count = static_cast<std::uint32_t>(changed.size());
        if (changed.empty()) return;
        if (vmcow::PageCount{outbox_pages_ + changed.size()} <= kOutboxPages) {
            std::byte* const to = call_memory_.outbox() + outbox_pages_ * vmcow::kPageBytes;
            for (std::size_t i = 0; i < changed.size(); ++i) {
                std::memcpy(to + i * vmcow::kPageBytes, view.page(changed[i]), vmcow::kPageBytes);
            }
            std::memcpy(call_memory_.outbox_table() + outbox_pages_ * sizeof(vmcow::PageIndex), changed.data(),
                        changed.size_bytes());
            outbox_pages_ += changed.size();
            reply.changes = Where::call_memory;
            return;
        }
        const auto delta = vmcow::Delta::copy_of(changed, [&](std::size_t i) { return view.page(changed[i]); });
        fds_.push_back(vmcow::sys::duplicate(delta->fd()));
        reply.changes = Where::file;
    }

    /// Restores what the function has changed, after the reply and so off the caller's path.
    void refresh() {
        if (request_.image_count > 0 && !images_.are_mapped(request_)) ::_exit(kCannotGoOn);
        for (std::size_t i = 0; i < request_.image_count; ++i) {
            if (request_.images[i].is_sent && !sent_[i].is_mapped()) ::_exit(kCannotGoOn);
        }
        for (std::size_t i = 0; i < request_.image_count; ++i) {
            const ImageRequest& image = request_.images[i];
            vmcow::ResidentView* const view = image.is_sent ? nullptr : images_.view_of(image);
            if (view == nullptr || view->changed().empty() || !images_.restore_now(image)) continue;
            step(CallStep::refreshing);
            try {
                view->restore();
            } catch (const std::system_error&) {
                continue;  // out of address space: tried again, and reported, when the view is next prepared
            }
        }
        if (request_.image_count > 0) images_.keep_to_budget(request_);
    }

    void send(std::uint64_t number) {
        step(CallStep::replying);
        reply_.fd_count = static_cast<std::uint16_t>(fds_.size());
        if (!fds_.empty()) {
            std::vector<int> numbers;
            for (const UniqueFd& fd : fds_) numbers.push_back(fd.get());
            socket_.send(std::as_bytes(std::span(&number, 1)), numbers);
            fds_.clear();
        }
        if (request_.limits_processor) reply_.processor_ns = processor_ns() - processor_before_;
        copy_with_images(call_memory_->reply, reply_, request_.image_count);
        static_cast<void>(say_where());
        // A caller that could not be woken looks by itself. EPIPE: the caller is gone. EBADF: this process has no pipe.
        const int error = ring(call_memory_->reply_number, number, call_memory_->caller_asleep, reply_pipe_.get());
        if (error == EPIPE || error == EBADF) ::_exit(kCannotGoOn);
        step(CallStep::replied);
    }

    const WorkerConfig& config_;
    WorkerEnds ends_;
    pipes::MessageSocket socket_;
    UniqueFd request_pipe_;
    UniqueFd reply_pipe_;
    MappedCallMemory call_memory_;
    WorkerImages images_;
    std::optional<vmcow::sys::PageScanner> scanner_;
    SpinBudget spin_;
    std::int64_t idle_since_ns_ = 0;
    bool may_spin_ = false;
    unsigned same_processor_ = 0;  // wake-ups beside the caller since the last move
    unsigned patience_ = kLeastPatience;
    LeftBehind left_behind_;
    std::int64_t processor_before_ = 0;
    std::uint64_t number_ = 0;  // the request that is being served
    Request request_;
    Reply reply_;
    std::array<CallImage, kMaxImages> arguments_{};
    std::array<SentImage, kMaxImages> sent_;
    bool sends_back_ = false;  // a value that was sent may have been changed
    std::size_t outbox_pages_ = 0;
    std::vector<UniqueFd> fds_;
};

Worker* this_worker = nullptr;
std::terminate_handler terminate_before = nullptr;

/// Replies to a call that uses a static variable of a function which was being initialized when this worker's zygote
/// was forked: in this process it never will be. Libstdc++ throws recursive_init_error then, from where no exception
/// may pass.
[[noreturn]] void say_why_it_terminates() {
    const std::type_info* const thrown = abi::__cxa_current_exception_type();
    if (thrown != nullptr && std::string_view(thrown->name()).find("recursive_init_error") != std::string_view::npos) {
        this_worker->end_call(kStaticIsNotThere);
        ::_exit(kCannotGoOn);
    }
    terminate_before();
    std::abort();
}

/// Keeps memory that a call frees in this process: memory that has gone back to the kernel costs faults again.
void keep_freed_memory() noexcept {
    constexpr int kKeptBytes = 64 << 20;
    ::mallopt(M_TRIM_THRESHOLD, kKeptBytes);
    ::mallopt(M_MMAP_THRESHOLD, kKeptBytes / 2);
}

}  // namespace

int worker_main(WorkerEnds ends, const WorkerConfig& config) noexcept {
    try {
        vmcow::sys::name_thread("vmcow-worker");
        keep_freed_memory();
        // A daemon whose parents have ended becomes a child of this process.
        static_cast<void>(vmcow::sys::adopt_orphans());
        Worker worker(std::move(ends), config);
        this_worker = &worker;
        terminate_before = std::set_terminate(say_why_it_terminates);
        return worker.run();
    } catch (const std::exception&) {
        return kCannotGoOn;
    }
}

}  // namespace procrun::detail
