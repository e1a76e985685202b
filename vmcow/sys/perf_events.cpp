#include "vmcow/sys/perf_events.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <limits>
#include <optional>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/tasks.hpp"
#include "vmcow/units.hpp"

namespace vmcow::sys {
namespace {

constexpr std::uint16_t kMostFrames = 64;
constexpr int kMostListings = 8;
constexpr std::size_t kLeastRingBytes = std::size_t{64} << 10;
/// Values from here on are marks in a call chain: they show where the kernel's part and the user's part begin.
constexpr std::uint64_t kFirstMark = static_cast<std::uint64_t>(-4095);
constexpr std::uint64_t kUserMark = static_cast<std::uint64_t>(PERF_CONTEXT_USER);

using Bytes = std::span<const std::byte>;

/// Reads a record from its beginning to its end. Reading past the end gives zeros.
class RecordReader {
public:
    explicit RecordReader(Bytes bytes) : rest_(bytes) {}

    template <class Number>
    Number take() {
        Number number{};
        if (rest_.size() < sizeof(number)) {
            rest_ = {};
            return number;
        }
        std::memcpy(&number, rest_.data(), sizeof(number));
        rest_ = rest_.subspan(sizeof(number));
        return number;
    }
    std::string_view take_text() {
        const auto* const text = reinterpret_cast<const char*>(rest_.data());
        return {text, ::strnlen(text, rest_.size())};
    }
    [[nodiscard]] std::size_t left() const { return rest_.size(); }

private:
    Bytes rest_;
};

perf_event_header header_of(Bytes record) {
    perf_event_header header{};
    std::memcpy(&header, record.data(), sizeof(header));
    return header;
}

/// The time of a record. A sample has it behind pid and tid. Any other record ends with it, as the last field that
/// sample_id_all adds.
std::uint64_t time_of(Bytes record) {
    const std::size_t at = header_of(record).type == PERF_RECORD_SAMPLE ? sizeof(perf_event_header) + 16
                                                                        : record.size() - sizeof(std::uint64_t);
    return RecordReader(record.subspan(std::min(at, record.size()))).take<std::uint64_t>();
}

std::uint64_t now_ns() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

void hand_over_sample(RecordReader reader, std::uint64_t period, std::vector<std::uint64_t>& chain,
                      PerfRecords& records) {
    FaultSample sample;
    const auto instruction = reader.take<std::uint64_t>();
    sample.pid = static_cast<pid_t>(reader.take<std::uint32_t>());
    sample.thread = static_cast<pid_t>(reader.take<std::uint32_t>());
    sample.time_ns = reader.take<std::uint64_t>();
    sample.address = reader.take<std::uint64_t>();
    sample.weight = period != 0 ? period : std::max<std::uint64_t>(reader.take<std::uint64_t>(), 1);
    const auto count = std::min<std::uint64_t>(reader.take<std::uint64_t>(), reader.left() / sizeof(std::uint64_t));
    chain.clear();
    bool is_user = true;
    for (std::uint64_t i = 0; i < count; ++i) {
        const auto entry = reader.take<std::uint64_t>();
        if (entry >= kFirstMark) {
            is_user = entry == kUserMark;
        } else if (is_user) {
            chain.push_back(entry);
        }
    }
    if (chain.empty()) chain.push_back(instruction);
    sample.chain = chain;
    records.on_fault(sample);
}

void hand_over_mapping(const perf_event_header& header, RecordReader reader, PerfRecords& records) {
    MappedCode code;
    code.pid = static_cast<pid_t>(reader.take<std::uint32_t>());
    (void)reader.take<std::uint32_t>();  // thread
    code.start = reader.take<std::uint64_t>();
    code.end = code.start + reader.take<std::uint64_t>();
    code.offset = reader.take<std::uint64_t>();
    (void)reader.take<std::uint64_t>();  // device
    code.inode = reader.take<std::uint64_t>();
    (void)reader.take<std::uint64_t>();  // the inode's generation
    (void)reader.take<std::uint64_t>();  // protection, flags
    code.name = reader.take_text();
    if ((header.misc & PERF_RECORD_MISC_MMAP_BUILD_ID) == 0) records.on_mapped_code(code);
}

void hand_over(Bytes record, std::uint64_t period, std::vector<std::uint64_t>& chain, PerfRecords& records) {
    const perf_event_header header = header_of(record);
    RecordReader reader(record.subspan(sizeof(header)));
    if (header.type == PERF_RECORD_SAMPLE) return hand_over_sample(reader, period, chain, records);
    if (header.type == PERF_RECORD_MMAP2) return hand_over_mapping(header, reader, records);
    const auto first = reader.take<std::uint32_t>();
    const auto second = reader.take<std::uint32_t>();
    if (header.type == PERF_RECORD_COMM) {
        if ((header.misc & PERF_RECORD_MISC_COMM_EXEC) != 0) {
            records.on_exec(static_cast<pid_t>(first), reader.take_text());
        }
    } else if (header.type == PERF_RECORD_LOST) {
        records.on_lost(reader.take<std::uint64_t>());  // behind the event's id: `first`, `second`
    } else if (header.type == PERF_RECORD_FORK || header.type == PERF_RECORD_EXIT) {
        const auto thread = static_cast<pid_t>(reader.take<std::uint32_t>());
        (void)reader.take<std::uint32_t>();  // the parent's thread
        const auto time = reader.take<std::uint64_t>();
        if (header.type == PERF_RECORD_FORK) {
            records.on_fork(static_cast<pid_t>(first), thread, static_cast<pid_t>(second), time);
        } else {
            records.on_exit(static_cast<pid_t>(first), thread, time);
        }
    }
}

}  // namespace

int perf_event_open(perf_event_attr* attributes, pid_t thread, int cpu, int group, unsigned long flags) noexcept {
    return static_cast<int>(::syscall(SYS_perf_event_open, attributes, thread, cpu, group, flags));
}

/// The ring of one processor: a page of counters, and behind it the records.
class PerfFaultEvents::Ring {
public:
    Ring(UniqueFd event, void* memory, std::size_t bytes) : event_(std::move(event)), memory_(memory), bytes_(bytes) {}
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() { ::munmap(memory_, kPageBytes + bytes_); }

    [[nodiscard]] int event() const noexcept { return event_.get(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    /// Appends copies of the records in the ring and gives their space back to the kernel.
    void take(std::vector<std::byte>& bytes, std::vector<Record>& records) {
        auto* const page = static_cast<perf_event_mmap_page*>(memory_);
        // The kernel wrote the records before the head. They are copied before the new tail lets the kernel overwrite
        // them.
        const std::uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
        std::uint64_t tail = page->data_tail;
        while (head - tail >= sizeof(perf_event_header)) {
            perf_event_header header{};
            copy(tail, &header, sizeof(header));
            if (header.size < sizeof(header) || header.size > head - tail) {
                tail = head;
                break;
            }
            const std::size_t offset = bytes.size();
            bytes.resize(offset + header.size);
            copy(tail, bytes.data() + offset, header.size);
            records.push_back({time_of(Bytes(bytes).subspan(offset)), offset, header.size});
            tail += header.size;
        }
        __atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE);
    }

private:
    void copy(std::uint64_t position, void* to, std::size_t count) const {
        const std::size_t at = position & (bytes_ - 1);
        const std::size_t first = std::min(count, bytes_ - at);
        const std::byte* const data = static_cast<const std::byte*>(memory_) + kPageBytes;
        std::memcpy(to, data + at, first);
        std::memcpy(static_cast<std::byte*>(to) + first, data, count - first);
    }

    UniqueFd event_;
    void* memory_;
    std::size_t bytes_;
};

void PerfFaultEvents::RingEnd::operator()(Ring* ring) const noexcept { delete ring; }

perf_event_attr PerfFaultEvents::attributes() const noexcept {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = options_.only_minor ? PERF_COUNT_SW_PAGE_FAULTS_MIN : PERF_COUNT_SW_PAGE_FAULTS;
    attributes.freq = options_.period == 0 ? 1 : 0;
    attributes.sample_period = options_.period == 0 ? options_.samples_per_second : options_.period;
    attributes.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR;
    if (options_.with_code) attributes.sample_type |= PERF_SAMPLE_CALLCHAIN;
    // With PERF_SAMPLE_PERIOD, every event of a software event of a fixed period would become a sample.
    if (options_.period == 0) attributes.sample_type |= PERF_SAMPLE_PERIOD;
    attributes.sample_max_stack = options_.with_code ? kMostFrames : 0;
    attributes.exclude_callchain_kernel = 1;
    attributes.exclude_kernel = exclude_kernel_ ? 1 : 0;
    attributes.exclude_hv = 1;
    attributes.inherit = 1;
    attributes.mmap = options_.with_code ? 1 : 0;
    attributes.mmap2 = attributes.mmap;
    attributes.comm = attributes.mmap;
    attributes.comm_exec = attributes.mmap;
    attributes.task = 1;
    attributes.sample_id_all = 1;
    attributes.watermark = 1;
    attributes.wakeup_watermark = static_cast<std::uint32_t>(options_.ring_bytes / 4);
    attributes.use_clockid = 1;
    attributes.clockid = CLOCK_MONOTONIC;
    return attributes;
}

int PerfFaultEvents::attach(pid_t thread) {
    std::vector<UniqueFd> opened;
    int found = ENODEV;
    const auto processors = static_cast<int>(::sysconf(_SC_NPROCESSORS_CONF));
    if (events_.size() + rings_.size() >= options_.most_descriptors) return EMFILE;
    for (int cpu = 0; cpu < processors; ++cpu) {
        const int error = attach_to(thread, cpu, opened);
        if (error == ENODEV) continue;  // this processor is switched off
        found = error;
        if (error != 0) break;
    }
    if (found != 0) return found;
    for (UniqueFd& event : opened) events_.push_back(std::move(event));
    return 0;
}

int PerfFaultEvents::attach_to(pid_t thread, int cpu, std::vector<UniqueFd>& opened) {
    const auto open = [&] {
        perf_event_attr wanted = attributes();
        return options_.open(&wanted, thread, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    };
    int fd = open();
    if (fd < 0 && errno == EACCES && !exclude_kernel_) {
        exclude_kernel_ = true;  // kernel.perf_event_paranoid is 2
        fd = open();
        if (fd < 0) exclude_kernel_ = false;
    }
    if (fd < 0) return errno;
    UniqueFd event(fd);
    const auto ring = rings_.find(cpu);
    if (ring != rings_.end()) {
        if (::ioctl(event.get(), PERF_EVENT_IOC_SET_OUTPUT, ring->second->event()) != 0) return errno;
        opened.push_back(std::move(event));
        return 0;
    }
    // kernel.perf_event_mlock_kb limits how much memory may be locked.
    for (; options_.ring_bytes >= kLeastRingBytes; options_.ring_bytes /= 2) {
        const std::size_t bytes = options_.ring_bytes;
        void* const memory = ::mmap(nullptr, kPageBytes + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, event.get(), 0);
        if (memory != MAP_FAILED) {
            rings_.emplace(cpu, RingOwner(new Ring(std::move(event), memory, bytes)));
            return 0;
        }
        if (errno != EPERM && errno != ENOMEM) break;
    }
    return errno;
}

int PerfFaultEvents::attach_process(pid_t pid, std::set<pid_t>& threads, PerfRecords& records) {
    bool found_new = true;
    // Threads may start other threads while they are listed, and those may start more.
    for (int i = 0; i < kMostListings && found_new; ++i) {
        found_new = false;
        const std::vector<pid_t> listed = try_list_threads(pid).value_or(std::vector<pid_t>());
        // A thread that an attached thread has started since is attached too, and its record is there by now.
        drain(records);
        for (const pid_t thread : listed) {
            if (threads.contains(thread)) continue;
            const int error = attach(thread);
            if (error == ESRCH && thread != pid) continue;  // the thread has ended
            if (error != 0) return error;
            threads.insert(thread);
            found_new = true;
        }
    }
    return threads.empty() ? ESRCH : 0;
}

void PerfFaultEvents::drain(PerfRecords& records) {
    // Rings are read one after the other. Of records newer than this moment, older ones may still be missing: they are
    // held.
    const std::uint64_t settled = now_ns();
    for (auto& [cpu, ring] : rings_) ring->take(bytes_, records_);
    std::stable_sort(records_.begin(), records_.end(),
                     [](const Record& a, const Record& b) { return a.time_ns < b.time_ns; });
    const auto held = std::partition_point(records_.begin(), records_.end(),
                                           [&](const Record& record) { return record.time_ns < settled; });
    for (auto record = records_.begin(); record != held; ++record) {
        hand_over(Bytes(bytes_).subspan(record->offset, record->bytes), options_.period, chain_, records);
    }
    std::vector<std::byte> held_bytes;
    records_.erase(records_.begin(), held);
    for (Record& record : records_) {
        const Bytes bytes = Bytes(bytes_).subspan(record.offset, record.bytes);
        record.offset = held_bytes.size();
        held_bytes.insert(held_bytes.end(), bytes.begin(), bytes.end());
    }
    bytes_.assign(held_bytes.begin(), held_bytes.end());
}

std::vector<int> PerfFaultEvents::descriptors() const {
    std::vector<int> descriptors;
    for (const auto& [cpu, ring] : rings_) descriptors.push_back(ring->event());
    return descriptors;
}

std::size_t PerfFaultEvents::memory_bytes() const noexcept {
    std::size_t bytes = bytes_.capacity() + records_.capacity() * sizeof(Record);
    for (const auto& [cpu, ring] : rings_) bytes += kPageBytes + ring->bytes();
    return bytes;
}

int perf_faults_error() noexcept {
    PerfFaultEvents::Options options;
    options.ring_bytes = kLeastRingBytes;
    return PerfFaultEvents(options).attach(::getpid());
}

}  // namespace vmcow::sys
