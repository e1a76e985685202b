#include "procrun/worker_main.hpp"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "procrun/call_clock.hpp"
#include "procrun/channel_mapping.hpp"
#include "procrun/doorbell.hpp"
#include "procrun/limits.hpp"
#include "procrun/payload.hpp"
#include "procrun/worker_images.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// The exit status of a worker that could not go on: its descriptors are gone.
constexpr int kCannotGoOn = 125;

/// Wake-ups on the caller's processor before a worker moves away.
constexpr unsigned kLeastPatience = 2;
constexpr unsigned kMostPatience = 64;

bool forked_in_call = false;

void note_fork() { forked_in_call = true; }

/// Puts a descriptor where a function that opens and closes files will hardly meet it.
UniqueFd out_of_the_way(UniqueFd fd) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlim_t top = std::min<rlim_t>(limit.rlim_cur, 1024);
    const int high = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, static_cast<int>(top > 32 ? top - 16 : 3));
    return high < 0 ? std::move(fd) : UniqueFd(high);
}

std::uint64_t faults_so_far() noexcept {
    rusage usage{};
    ::getrusage(__libc_single_threaded != 0 ? RUSAGE_THREAD : RUSAGE_SELF, &usage);
    return static_cast<std::uint64_t>(usage.ru_minflt) + static_cast<std::uint64_t>(usage.ru_majflt);
}

std::int64_t processor_ns() noexcept {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

std::size_t thread_count() noexcept {
    struct stat status {};
    return ::stat("/proc/self/task", &status) == 0 ? status.st_nlink : 0;
}

/// Whether what is printed there does not go straight to stdio, as after std::ios::sync_with_stdio(false). Asked of the
/// type once for each buffer: flushing without need costs as much as a tenth of an empty call.
bool has_own_buffer(const std::ostream& stream) {
    static const std::streambuf* known = nullptr;
    static bool own = false;
    if (stream.rdbuf() != known) {
        known = stream.rdbuf();
        own = dynamic_cast<const std::filebuf*>(known) != nullptr;
    }
    return own;
}

/// What the function has printed goes out now: this process ends without warning. A write that failed earlier counts
/// too: stdio has dropped what it could not write.
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

class Worker {
public:
    Worker(WorkerEnds ends, const WorkerConfig& config)
        : config_(config),
          ends_(std::move(ends)),
          socket_(out_of_the_way(std::move(ends_.socket))),
          request_pipe_(out_of_the_way(std::move(ends_.request_pipe))),
          reply_pipe_(out_of_the_way(std::move(ends_.reply_pipe))),
          channel_(ends_.channel.get()),
          images_(config.costs, config.resident_budget) {
        ends_.channel.reset();
        usual_threads_ = thread_count();
    }

    int run() {
        for (std::uint64_t number = kFirstNumber + 1;; ++number) {
            if (const std::optional<int> status = wait_for(number)) return *status;
            serve(number);
        }
    }

private:
    void step(CallStep at) {
        channel_->step.store(at, std::memory_order_relaxed);
        if (config_.at_step != nullptr) config_.at_step(at);
    }

    // ---- waiting

    /// nullopt once request `number` is there; otherwise the status to end with.
    std::optional<int> wait_for(std::uint64_t number) {
        const std::uint32_t here = say_where();
        idle_since_ns_ = now_ns();
        if (may_spin_ && channel_->caller_processor.load(std::memory_order_relaxed) != here &&
            spin_until(channel_->request_number, number, spin_.ns())) {
            patience_ = kLeastPatience;
            return std::nullopt;
        }
        if (!images_.are_mapped()) return kCannotGoOn;
        step(CallStep::idle);
        const auto idle_ms = std::chrono::ceil<std::chrono::milliseconds>(config_.idle_time).count();
        const int timeout = static_cast<int>(std::clamp<std::int64_t>(idle_ms, 1, std::numeric_limits<int>::max()));
        while (lie_down(channel_->request_number, number, channel_->worker_asleep)) {
            pollfd wanted{request_pipe_.get(), POLLIN, 0};
            const int ready = ::poll(&wanted, 1, timeout);
            if (ready < 0 && errno != EINTR) return kCannotGoOn;
            if (ready == 0) {
                WorkerState expected = WorkerState::idle;
                if (channel_->state.compare_exchange_strong(expected, WorkerState::retired)) return 0;
                continue;
            }
            if (ready > 0 && !get_up(channel_->worker_asleep, request_pipe_.get())) {
                return (wanted.revents & POLLNVAL) != 0 ? kCannotGoOn : 0;  // the caller is gone
            }
        }
        leave_the_callers_processor();
        return std::nullopt;
    }

    /// Written only when it has changed: the caller reads it at each call.
    std::uint32_t say_where() {
        const std::uint32_t here = this_processor();
        if (channel_->worker_processor.load(std::memory_order_relaxed) != here) {
            channel_->worker_processor.store(here, std::memory_order_relaxed);
        }
        return here;
    }

    /// Woken up by a pipe, a process is often put where the waker runs, and there it can only take turns with it.
    /// Asking for the other processors for a moment moves it. That costs more than a call, so it is done ever less
    /// often until spinning has paid again.
    void leave_the_callers_processor() {
        const std::uint32_t here = this_processor();
        if (!may_spin_ || channel_->caller_processor.load(std::memory_order_relaxed) != here) return;
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
        // From here on the channel's copy may be overwritten.
        copy_with_images(request_, channel_->request, channel_->request.image_count);
        request_.image_count = std::min<std::uint8_t>(request_.image_count, kMaxImages);
        may_spin_ = request_.may_spin;
        spin_.learn(request_.asked_ns - idle_since_ns_);
        channel_->received_number.store(number, std::memory_order_relaxed);
        copy_with_images(reply_, Reply{}, request_.image_count);
        step(CallStep::received);
        forked_in_call = false;
        fds_.clear();
        if (request_.kind == RequestKind::let_go) {
            images_.let_go();
        } else {
            call();
        }
        send(number);
        if (request_.kind == RequestKind::call) refresh();
    }

    void call() {
        CallStep at = CallStep::mapping;
        try {
            step(at);
            for (std::uint32_t i = 0; i < request_.lessons; ++i) images_.learn(receive());
            bool watched = false;
            for (std::size_t i = 0; i < request_.image_count; ++i) {
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
            reply_.finished = has_left_something();
            reply_.counted = true;
            for (std::size_t i = 0; i < request_.image_count; ++i) {
                reply_.images[i].extent_bytes = arguments_[i].extent_bytes + request_.images[i].skip;
            }
            if (watched) {
                step(at = CallStep::comparing);
                compare(faults_so_far() != faults);
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
        return Payload(std::vector<std::byte>(channel_.arguments(), channel_.arguments() + bytes));
    }

    /// Runs the function; what it returns or throws is put where the caller finds it.
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
            flush_output();  // what it had printed by then is its own, not the next call's
        } catch (const std::system_error&) {
            thrown += "; and what it has printed cannot be written";
        }
        const std::string_view text = std::string_view(thrown).substr(0, kMostTextBytes);
        put_inline(std::as_bytes(std::span(text)));
    }

    void put_inline(std::span<const std::byte> bytes) noexcept {
        const bool small = bytes.size() <= kSmallBytes;
        std::byte* const to = small ? reply_.small.data() : channel_.result();
        if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
        reply_.payload = small ? Where::small : Where::channel;
        reply_.payload_bytes = bytes.size();
    }

    void put_payload(const pipes::MessageWriter& writer) {
        for (const int fd : writer.fds()) fds_.push_back(vmcow::sys::duplicate(fd));
        if (writer.bytes().size() <= kInlineBytes) return put_inline(writer.bytes());
        fds_.insert(fds_.begin(), file_of_payload(writer.bytes()));
        reply_.payload = Where::file;
        reply_.payload_bytes = writer.bytes().size();
    }

    /// Threads or processes: they could go on writing to what is the caller's again (I3), or keep what this process
    /// has.
    bool has_left_something() {
        if (__libc_single_threaded == 0 && thread_count() > usual_threads_) return true;
        if (!forked_in_call) return false;
        siginfo_t info{};
        while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0) {
            if (info.si_pid == 0) return true;  // there are children, and none has ended
            info = {};
        }
        return false;
    }

    // ---- what it has changed

    void compare(bool faulted) {
        if (!scanner_) scanner_.emplace();
        for (std::size_t i = 0; i < request_.image_count; ++i) {
            vmcow::ResidentView* const view = images_.view_of(request_.images[i]);
            if (view == nullptr) continue;
            view->find_changes(*scanner_, faulted);
            ImageReply& reply = reply_.images[i];
            reply.copied_pages = view->copied().value;
            reply.changed_pages = view->changed().size();
            reply.resident_pages = view->resident().value;
            if (request_.count_bytes) reply.changed_bytes = view->changed_bytes();
            if (request_.images[i].mode == ImageMode::apply && reply_.kind == ReplyKind::returned) write_out(*view);
        }
        reply_.resident_pages = images_.resident().value;
    }

    void write_out(vmcow::ResidentView& view) {
        step(CallStep::writing_out);
        const std::span<const vmcow::PageIndex> changed = view.changed();
        reply_.change_count = static_cast<std::uint32_t>(changed.size());
        if (changed.empty()) return;
        if (vmcow::PageCount{changed.size()} <= kOutboxPages) {
            std::byte* const to = channel_.outbox();
            for (std::size_t i = 0; i < changed.size(); ++i) {
                std::memcpy(to + i * vmcow::kPageBytes, view.page(changed[i]), vmcow::kPageBytes);
            }
            std::memcpy(channel_.outbox_table(), changed.data(), changed.size_bytes());
            reply_.changes = Where::channel;
            return;
        }
        const auto delta = vmcow::Delta::copy_of(changed, [&](std::size_t i) { return view.page(changed[i]); });
        fds_.push_back(vmcow::sys::duplicate(delta->fd()));
        reply_.changes = Where::file;
    }

    /// After the reply, off the caller's path.
    void refresh() {
        if (request_.image_count > 0 && !images_.are_mapped(request_)) ::_exit(kCannotGoOn);
        for (std::size_t i = 0; i < request_.image_count; ++i) {
            const ImageRequest& image = request_.images[i];
            vmcow::ResidentView* const view = images_.view_of(image);
            if (view == nullptr || view->changed().empty() || !images_.restore_now(image)) continue;
            step(CallStep::refreshing);
            try {
                view->restore();
            } catch (const std::system_error&) {
                continue;  // out of address space: tried again, and reported, when it is next prepared
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
        copy_with_images(channel_->reply, reply_, request_.image_count);
        static_cast<void>(say_where());
        if (ring(channel_->reply_number, number, channel_->caller_asleep, reply_pipe_.get()) != 0) {
            ::_exit(kCannotGoOn);
        }
        step(CallStep::replied);
    }

    const WorkerConfig& config_;
    WorkerEnds ends_;
    pipes::MessageSocket socket_;
    UniqueFd request_pipe_;
    UniqueFd reply_pipe_;
    ChannelMapping channel_;
    WorkerImages images_;
    std::optional<vmcow::sys::PageScanner> scanner_;
    SpinBudget spin_;
    std::int64_t idle_since_ns_ = 0;
    bool may_spin_ = false;
    unsigned same_processor_ = 0;  // wake-ups beside the caller since the last move
    unsigned patience_ = kLeastPatience;
    std::size_t usual_threads_ = 0;
    std::int64_t processor_before_ = 0;
    Request request_;
    Reply reply_;
    std::array<WorkerCall::Image, kMaxImages> arguments_{};
    std::vector<UniqueFd> fds_;
};

/// What a call allocates and frees again should stay here: memory that goes back to the kernel comes with faults.
void keep_freed_memory() noexcept {
    constexpr int kKeptBytes = 64 << 20;
    ::mallopt(M_TRIM_THRESHOLD, kKeptBytes);
    ::mallopt(M_MMAP_THRESHOLD, kKeptBytes / 2);
}

}  // namespace

std::size_t CallImage::grow(std::size_t bytes) {
    const std::size_t room = view != nullptr ? kGrowthRoom : capacity - std::min<std::size_t>(capacity, extent_bytes);
    for (const std::size_t wanted : vmcow::growth_steps(extent_bytes, bytes)) {
        if (wanted > room) continue;
        try {
            if (view != nullptr) view->grow(extent_bytes + wanted);
        } catch (const std::system_error&) {
            continue;
        }
        extent_bytes += wanted;
        return wanted;
    }
    return 0;
}

int worker_main(WorkerEnds ends, const WorkerConfig& config) noexcept {
    try {
        ::prctl(PR_SET_NAME, "vmcow-worker");
        keep_freed_memory();
        ::pthread_atfork(nullptr, note_fork, nullptr);
        return Worker(std::move(ends), config).run();
    } catch (const std::exception&) {
        return kCannotGoOn;
    }
}

}  // namespace procrun::detail
