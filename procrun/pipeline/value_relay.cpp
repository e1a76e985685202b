#include "procrun/pipeline/value_relay.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "procrun/process/poll_until.hpp"
#include "procrun/program_call.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::TypedSnapshot;
using vmcow::sys::UniqueFd;

namespace {

/// The most values that wait here for one stage. A function that gives it more has to wait; a program is refused.
constexpr std::size_t kMostWaiting = ProgramCall::kMaxResults;
/// The most messages that are taken from one program before the others have their turn.
constexpr std::size_t kMessagesInTurn = 16;
constexpr int kTurnsAtEnd = 64;

bool is_ready(int fd, short events) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    return fd >= 0 && poll_until({&entry, 1}, Deadline::in({}), "look at a program's values") > 0;
}

bool has_hung_up(int fd) {
    pollfd entry{.fd = fd, .events = 0, .revents = 0};
    return poll_until({&entry, 1}, Deadline::in({}), "look at a program's connection") > 0 &&
           (entry.revents & POLLHUP) != 0;
}

bool is_gone(const std::system_error& error) {
    return error.code().value() == EPIPE || error.code().value() == ECONNRESET;
}

}  // namespace

/// One value on its way. If nobody has taken it by the time it is destroyed, it is counted as untaken.
struct ValueRelay::Given {
    Given(TypedSnapshot given, std::uint64_t& count) : value(std::move(given)), untaken(count) {}
    Given(const Given&) = delete;
    Given& operator=(const Given&) = delete;
    ~Given() {
        if (!taken) ++untaken;
    }
    /// Copies a value from disk into memory, once for all its readers, before it is first sent.
    void seal() { value.snapshot = value.snapshot.sealed(); }

    TypedSnapshot value;
    std::uint64_t& untaken;
    bool taken = false;
};

/// Values that come to a program from one of the stages that it reads, and that it has not asked for yet.
struct ValueRelay::Edge {
    std::size_t giver = 0;
    std::optional<BoundedReceiver> function;  // none: the giver is a program or the caller
    std::deque<GivenPtr> waiting;
    bool ended = false;

    [[nodiscard]] bool is_over() const noexcept { return ended && waiting.empty(); }
    [[nodiscard]] bool has_room() const noexcept { return waiting.size() < kMostWaiting; }
};

/// A reader of a program: another program, or a function.
struct ValueRelay::Target {
    ProgramNode* program = nullptr;
    std::size_t edge = 0;
    std::optional<BoundedSender> function;
    std::deque<GivenPtr> waiting;  // for the function
    bool ended = false;
};

struct ValueRelay::ProgramNode {
    std::size_t stage = 0;
    UniqueFd socket;
    bool by_line = false;
    bool to_caller = false;
    std::vector<Edge> reads;
    std::vector<Target> readers;

    bool ready = false;      // one of its descriptors was ready
    std::uint64_t asks = 0;  // requests that have not been answered
    bool has_asked = false;
    bool was_told_end = false;
    bool has_ended = false;
    bool passes_on = false;  // the values that it was given, because it gave none
    bool output_ended = false;
    std::optional<std::chrono::steady_clock::time_point> stalled_since;
    bool is_stall_told = false;

    std::vector<GivenPtr> handed;                     // values that it was given, which may go on to its readers
    std::set<std::shared_ptr<const void>> its_files;  // bases and deltas of these, and of the values it gave
    vmcow::SentFiles sent;
    std::deque<TypedSnapshot> output;
    StageValues counts{};
    std::optional<Outcome> refusal;

    /// The edge with the next value that it gets; nullptr: no value is there yet, or none comes any more.
    [[nodiscard]] Edge* next_edge() noexcept {
        for (Edge& edge : reads) {
            if (!edge.waiting.empty()) return &edge;
            if (!edge.ended && !by_line) return nullptr;
        }
        return nullptr;
    }
    [[nodiscard]] GivenPtr take_next() {
        VMCOW_ASSERT(next_edge() != nullptr && "there is a value to take");
        Edge& edge = *next_edge();
        GivenPtr value = std::move(edge.waiting.front());
        edge.waiting.pop_front();
        return value;
    }
    [[nodiscard]] bool has_all() const noexcept {
        return std::all_of(reads.begin(), reads.end(), [](const Edge& edge) { return edge.is_over(); });
    }
    [[nodiscard]] bool can_answer() noexcept {
        return asks > 0 && !was_told_end && socket && (next_edge() != nullptr || has_all());
    }
    [[nodiscard]] bool output_has_room() const noexcept {
        return std::all_of(readers.begin(), readers.end(), [](const Target& target) {
            return target.function ? target.waiting.size() < kMostWaiting
                                   : target.program->reads[target.edge].has_room() || target.program->has_ended;
        });
    }

    void note_files(const vmcow::Snapshot& snapshot) {
        its_files.insert(snapshot.layers()->shared_base());
        for (const auto& delta : snapshot.layers()->deltas()) its_files.insert(delta);
    }
    /// The pages that came with a value and were in no value that the program was given.
    [[nodiscard]] std::uint64_t new_pages_of(const vmcow::Snapshot& snapshot) const {
        const vmcow::Layers& layers = *snapshot.layers();
        std::uint64_t pages = its_files.contains(layers.shared_base()) ? 0 : snapshot.page_count().value;
        for (const auto& delta : layers.deltas()) {
            if (!its_files.contains(delta)) pages += delta->pages().size();
        }
        return pages;
    }
};

ValueRelay::ValueRelay(std::size_t stages, bool keeps) : untaken_(stages + 1), programs_(stages), keeps_(keeps) {}

ValueRelay::~ValueRelay() = default;

// ---- who reads whom

ValueRelay::ProgramNode& ValueRelay::node_of(std::size_t stage) {
    VMCOW_ASSERT(programs_[stage] && "a program is added before those that read it");
    return *programs_[stage];
}

void ValueRelay::add_program(std::size_t stage, UniqueFd socket, bool by_line, bool to_caller) {
    programs_[stage] = std::make_unique<ProgramNode>();
    node_of(stage).stage = stage;
    node_of(stage).socket = std::move(socket);
    node_of(stage).by_line = by_line;
    node_of(stage).to_caller = to_caller;
}

void ValueRelay::read_program(std::size_t stage, std::size_t writer) {
    Target reader;
    reader.program = &node_of(stage);
    reader.edge = node_of(stage).reads.size();
    node_of(stage).reads.push_back({.giver = writer, .function = {}, .waiting = {}});
    node_of(writer).readers.push_back(std::move(reader));
}

void ValueRelay::read_function(std::size_t stage, std::size_t writer, BoundedReceiver values) {
    node_of(stage).reads.push_back({.giver = writer, .function = std::move(values), .waiting = {}});
}

void ValueRelay::give_function(std::size_t writer, BoundedSender values) {
    Target reader;
    reader.function.emplace(std::move(values));
    node_of(writer).readers.push_back(std::move(reader));
}

void ValueRelay::give_from_caller(std::span<const TypedSnapshot> values) {
    std::deque<GivenPtr> all;
    for (const TypedSnapshot& value : values) all.push_back(given_by(programs_.size(), value));
    for (const auto& program : programs_) {
        if (!program || !program->reads.empty()) continue;
        program->reads.push_back({.giver = programs_.size(), .function = {}, .waiting = all, .ended = true});
    }
}

void ValueRelay::close_all() noexcept {
    for (const auto& program : programs_) {
        if (!program) continue;
        program->socket.reset();
        for (Edge& edge : program->reads) {
            if (edge.function) edge.function->close();
        }
        for (Target& reader : program->readers) {
            if (reader.function) reader.function->close();
        }
    }
}

// ---- while the stages run

void ValueRelay::watch(std::vector<Attended>& attended) {
    for (const auto& owned : programs_) {
        if (!owned) continue;
        ProgramNode* const program = owned.get();
        const auto wake = [program](Attended&) { program->ready = true; };
        if (program->socket) {
            const short events = program->can_answer() ? POLLIN | POLLOUT : POLLIN;
            attended.push_back({.fd = program->socket.get(), .attend = wake, .events = events});
        }
        for (const Edge& edge : program->reads) {
            if (edge.function && !edge.function->closed() && edge.has_room()) {
                attended.push_back({.fd = edge.function->fd(), .attend = wake});
            }
        }
        for (const Target& reader : program->readers) {
            if (reader.function && !reader.function->closed()) {
                attended.push_back({.fd = reader.function->fd(), .attend = wake});
            }
        }
    }
}

std::vector<std::size_t> ValueRelay::step(const std::function<bool(std::size_t)>& runs,
                                          std::span<const StageReport> reports) {
    // A stage reads earlier ones only: one pass takes a value from the first stage to the last.
    for (const auto& owned : programs_) {
        if (!owned) continue;
        ProgramNode& program = *owned;
        const bool ends_now = !program.has_ended && !runs(program.stage);
        if (program.ready || ends_now) {
            program.ready = false;
            take_messages(program);
            // A program that has ended may have sent as much as a socket holds. The number of turns has a limit,
            // because processes that it left running may go on sending.
            for (int turn = 0; ends_now && turn < kTurnsAtEnd; ++turn) take_messages(program);
            take_from_functions(program);
        }
        if (ends_now) end(program, reports[program.stage].outcome);
        if (!program.socket && !program.has_ended) hang_up(program);
        answer(program);
        if (program.passes_on) pass_on(program);
        for (Target& reader : program.readers) flush(reader);
        note_stall(program);
    }
    return std::exchange(refused_, {});
}

void ValueRelay::take_messages(ProgramNode& program) {
    try {
        for (std::size_t i = 0; i < kMessagesInTurn && is_ready(program.socket.get(), POLLIN); ++i) {
            std::optional<vmcow::sys::Message> message;
            try {
                message = vmcow::sys::receive_message(program.socket.get());
            } catch (const std::system_error& error) {
                if (is_gone(error)) continue;  // said once: the program has ended with an answer unread
                throw;
            }
            if (message) {
                take_message(program, *std::move(message));
            } else {
                program.socket.reset();
            }
        }
    } catch (const std::system_error& error) {
        refuse(program, error);
    }
}

void ValueRelay::take_message(ProgramNode& program, vmcow::sys::Message message) {
    if (vmcow::is_value_request(message)) {
        ++program.asks;
        program.has_asked = true;
        return;
    }
    std::vector<TypedSnapshot> values = vmcow::unpack_values(std::move(message), &program.sent);
    if (values.size() != 1) {
        vmcow::sys::throw_error(EBADMSG, std::to_string(values.size()) + " values in one message");
    }
    if (program.counts.given == ProgramCall::kMaxResults) {
        vmcow::sys::throw_error(E2BIG, "more than " + std::to_string(program.counts.given) + " values");
    }
    ++program.counts.given;
    program.counts.new_pages += program.new_pages_of(values.front().snapshot);
    program.note_files(values.front().snapshot);
    push(program, given_by(program.stage, std::move(values.front())));
}

void ValueRelay::take_from_functions(ProgramNode& program) {
    for (Edge& edge : program.reads) {
        while (edge.has_room() && take_from_function(edge)) continue;
        // The giver would have to wait for a program that may be waiting for the giver's bytes: neither would go on.
        if (!edge.has_room() && program.socket && !program.has_asked && !program.refusal) {
            refuse(program, std::system_error(EDQUOT, std::system_category(),
                                              std::to_string(edge.waiting.size()) +
                                                  " values wait for it, and it has asked for none"));
        }
    }
}

/// Takes one value. False when there is none now.
bool ValueRelay::take_from_function(Edge& edge) {
    if (!edge.function || edge.ended || !is_ready(edge.function->fd(), POLLIN)) return false;
    try {
        auto value = edge.function->receive_snapshot();
        if (value) edge.waiting.push_back(given_by(edge.giver, *std::move(value)));
    } catch (const std::system_error& error) {
        if (failure_.empty()) failure_ = error.what();
        edge.function->close();
    }
    edge.ended = edge.function->closed();
    return !edge.ended;
}

/// Sends the values that the program has asked for, as far as they are there and there is room. Never waits.
void ValueRelay::answer(ProgramNode& program) {
    try {
        while (program.can_answer() && is_ready(program.socket.get(), POLLOUT)) {
            --program.asks;
            if (program.next_edge() == nullptr) {
                // After the last value the connection itself says so, to any process of the program that asks.
                program.was_told_end = true;
                if (::shutdown(program.socket.get(), SHUT_WR) != 0) {
                    vmcow::sys::throw_errno("shut down a program's connection for values");
                }
                return;
            }
            const GivenPtr next = program.take_next();
            program.handed.push_back(next);
            next->seal();
            vmcow::send_values(program.socket.get(), {&next->value, 1}, &program.sent);
            program.note_files(next->value.snapshot);
            next->taken = true;
            ++program.counts.taken;
        }
    } catch (const std::system_error& error) {
        // A program that has hung up takes no more, but values that it has sent may still be there. For any other error
        // the program is refused: it would wait for ever.
        if (!is_gone(error) || !has_hung_up(program.socket.get())) return refuse(program, error);
        program.asks = 0;
    }
}

void ValueRelay::end(ProgramNode& program, const Outcome& outcome) {
    program.has_ended = true;
    program.socket.reset();
    program.sent = {};
    program.its_files.clear();
    const bool has_taken_well = !program.has_asked || outcome.ok();
    has_taken_well ? let_pass(program) : end_output(program);
}

/// Handles a program that has closed its connection and runs on: it takes and gives no more. The values that it has
/// given have gone on. If it has asked for values and given none, its end decides what becomes of them.
void ValueRelay::hang_up(ProgramNode& program) {
    if (program.counts.given > 0) {
        end_output(program);
    } else if (!program.has_asked) {
        let_pass(program);
    }
}

/// Lets the values that a program was given go on, if it gave none. The program has ended, or has closed its connection
/// without having asked.
void ValueRelay::let_pass(ProgramNode& program) {
    if (program.refusal || program.passes_on || program.output_ended) return;
    if (program.counts.given > 0) {
        if (program.has_ended) end_output(program);
        return;
    }
    program.passes_on = true;
    for (const GivenPtr& value : std::exchange(program.handed, {})) {
        ++program.counts.passed_on;
        push(program, value);
    }
}

void ValueRelay::pass_on(ProgramNode& program) {
    do {
        while (program.next_edge() != nullptr && program.output_has_room()) {
            ++program.counts.passed_on;
            push(program, program.take_next());
        }
        if (!program.output_has_room()) return;
        take_from_functions(program);
    } while (program.next_edge() != nullptr);
    if (!program.has_all()) return;
    program.passes_on = false;
    end_output(program);
}

void ValueRelay::push(ProgramNode& program, const GivenPtr& value) {
    for (Target& reader : program.readers) {
        if (reader.program != nullptr) {
            if (!reader.program->output_ended) reader.program->reads[reader.edge].waiting.push_back(value);
        } else if (!reader.function->closed()) {
            reader.waiting.push_back(value);
        }
    }
    const bool is_output = program.to_caller || (keeps_ && program.readers.empty());
    if (!is_output) return;
    value->taken = true;
    program.output.push_back(value->value);
}

/// Ends a program's part: no values come from it any more, and it takes none. The stages that give it values are told.
void ValueRelay::end_output(ProgramNode& program) {
    if (std::exchange(program.output_ended, true)) return;
    for (Edge& edge : program.reads) {
        // Values that were under way count as values that nobody took.
        for (std::size_t i = 0; i < BoundedChannel::kMostUnderWay && take_from_function(edge); ++i) continue;
        if (edge.function) edge.function->close();
        edge.ended = true;
        edge.waiting.clear();
    }
    program.handed.clear();
    for (Target& reader : program.readers) {
        reader.ended = true;
        if (reader.program != nullptr) reader.program->reads[reader.edge].ended = true;
    }
}

void ValueRelay::refuse(ProgramNode& program, const std::system_error& error) {
    program.refusal = Outcome{OutcomeKind::result_lost, error.code().value(), "pass values on: " + text_of(error)};
    program.socket.reset();
    refused_.push_back(program.stage);
    end_output(program);
}

/// Whether a stage has to wait because the program does not ask for a value.
bool ValueRelay::holds_up(const ProgramNode& program) const {
    if (program.has_ended || program.output_ended || program.passes_on || program.asks > 0) return false;
    return std::any_of(program.reads.begin(), program.reads.end(), [this](const Edge& edge) {
        if (edge.has_room() || edge.ended) return false;
        const bool comes_by_a_program = !edge.function && edge.giver < programs_.size();
        return edge.function || (comes_by_a_program && programs_[edge.giver]->passes_on);
    });
}

void ValueRelay::note_stall(ProgramNode& program) {
    const auto now = std::chrono::steady_clock::now();
    if (!holds_up(program)) {
        program.stalled_since.reset();
    } else if (!program.stalled_since) {
        program.stalled_since = now;
    } else if (now - *program.stalled_since >= kStall && !std::exchange(program.is_stall_told, true)) {
        stalled_.push_back(program.stage);
    }
}

void ValueRelay::flush(Target& target) {
    if (!target.function || target.function->closed()) return;
    while (!target.waiting.empty() && target.function->has_room()) {
        target.waiting.front()->seal();
        if (!target.function->send(target.waiting.front()->value)) break;
        target.waiting.front()->taken = true;
        target.waiting.pop_front();
    }
    if (target.function->closed()) target.waiting.clear();
    if (target.waiting.empty() && target.ended) target.function->close();
}

// ---- when all have ended

void ValueRelay::finish(PipelineReport& report) {
    for (const auto& program : programs_) {
        if (!program) continue;
        end_output(*program);
        for (Target& reader : program->readers) reader.waiting.clear();
    }
    for (std::size_t stage = 0; stage < programs_.size(); ++stage) {
        std::optional<StageValues>& counts = report.stages[stage].values;
        if (programs_[stage]) counts = node_of(stage).counts;
        if (untaken_[stage] > 0 && !counts) counts.emplace();  // the values of a function
        if (counts) counts->untaken = untaken_[stage];
    }
    report.untaken_values = untaken_.back();
}

const std::optional<Outcome>& ValueRelay::refusal_of(std::size_t stage) const {
    static const std::optional<Outcome> none;
    return programs_[stage] ? programs_[stage]->refusal : none;
}

std::deque<TypedSnapshot> ValueRelay::take_output(std::size_t stage) {
    return programs_[stage] ? std::exchange(programs_[stage]->output, {}) : std::deque<TypedSnapshot>{};
}

ValueRelay::GivenPtr ValueRelay::given_by(std::size_t giver, TypedSnapshot value) {
    return std::make_shared<Given>(std::move(value), untaken_[giver]);
}

}  // namespace procrun
