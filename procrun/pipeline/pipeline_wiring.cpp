#include "procrun/pipeline/pipeline_wiring.hpp"

#include <fcntl.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <span>
#include <utility>

#include "pipes/pipe.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

using Numbers = std::vector<std::size_t>;

/// Opens the pipes and channels of all stages: first what each stage writes, then what each stage reads.
class Wirer {
public:
    Wirer(const std::deque<StageSpec>& specs, const PipelineOptions& options)
        : specs_(specs),
          pipe_bytes_(options.pipe_bytes),
          initial_values_(options.values),
          byte_readers_(specs.size()),
          byte_writers_(specs.size()),
          ends_to_join_(specs.size()) {
        wiring_.stages.resize(specs.size());
        wiring_.next_stages.resize(specs.size());
        wiring_.outputs.resize(specs.size());
        const std::vector<Numbers> readers = readers_of(specs);
        for (std::size_t i = 0; i < specs.size(); ++i) {
            byte_readers_[i] = byte_readers_among(i, readers[i]);
            for (const std::size_t reader : byte_readers_[i]) ++byte_writers_[reader];
        }
        const bool any_takes =
            std::any_of(specs.begin(), specs.end(), [](const StageSpec& spec) { return spec.takes_values(); });
        if (any_takes) wiring_.relay = std::make_unique<ValueRelay>(specs.size(), options.keep_values);
    }

    Wiring run() {
        for (std::size_t i = 0; i < specs_.size(); ++i) open_output(i);
        for (std::size_t i = 0; i < specs_.size(); ++i) open_input(i);
        for (std::size_t i = 0; i < specs_.size(); ++i) open_channels(i);
        if (wiring_.relay) wiring_.relay->give_from_caller(initial_values_);
        return std::move(wiring_);
    }

private:
    [[nodiscard]] Numbers byte_readers_among(std::size_t index, const Numbers& readers) const {
        if (!specs_[index].is_function()) return readers;
        Numbers programs;
        std::copy_if(readers.begin(), readers.end(), std::back_inserter(programs),
                     [&](std::size_t reader) { return !specs_[reader].is_function(); });
        return programs.empty() ? readers : programs;
    }

    /// Opens what stage `index` writes: a pipe to its one reader, or to the pump.
    void open_output(std::size_t index) {
        const Numbers& readers = byte_readers_[index];
        if (readers.empty()) return;
        if (readers.size() == 1 && needs_no_pump(readers.front())) {
            wiring_.next_stages[index] = readers.front();
            return;
        }
        pipes::Pipe pipe = open_pipe(index);
        if (readers.size() == 1) return lead_to(readers.front(), pipe.take_read_end(), index);
        WiredFlow flow{.is_tee = true, .ins = {}, .outs = {}, .stage = index, .others = readers};
        flow.ins.push_back(pipe.take_read_end());
        for (const std::size_t reader : readers) {
            pipes::Pipe branch = pipes::Pipe::open(pipe_bytes_);
            flow.outs.push_back(branch.take_write_end());
            lead_to(reader, branch.take_read_end(), index);
        }
        wiring_.flows.push_back(std::move(flow));
    }

    [[nodiscard]] pipes::Pipe open_pipe(std::size_t writer) {
        pipes::Pipe pipe = pipes::Pipe::open(pipe_bytes_);
        StageEnds& ends = wiring_.stages[writer];
        ends.pipe_bytes = pipe.capacity_bytes();
        ends.out = pipe.take_write_end();
        ends.out_gauge = std::make_shared<const PipeGauge>(ends.out.get());
        return pipe;
    }

    /// Whether `reader` can read a pipe that leads to it alone without the pump.
    [[nodiscard]] bool needs_no_pump(std::size_t reader) const {
        return byte_writers_[reader] == 1 && !may_wait_for_values(reader);
    }

    /// Notes that `reader` reads `end`, alone or joined with others.
    void lead_to(std::size_t reader, UniqueFd end, std::size_t writer) {
        ends_to_join_[reader].push_back({std::move(end), writer});
    }

    void open_input(std::size_t index) {
        StageEnds& ends = wiring_.stages[index];
        auto& arriving = ends_to_join_[index];
        if (byte_writers_[index] == 0) {
            // It reads values only: the caller's standard input is not for this stage.
            if (!specs_[index].reads.empty()) ends.in = vmcow::sys::open_file("/dev/null", O_RDONLY);
        } else if (arriving.empty()) {
            return;  // the pipe is opened when its writer starts
        } else if (arriving.size() == 1) {
            ends.in = std::move(arriving.front().end);
        } else {
            pipes::Pipe joined = pipes::Pipe::open(pipe_bytes_);
            WiredFlow flow{.ins = {}, .outs = {}, .join = specs_[index].join, .stage = index, .others = {}};
            for (Arriving& one : in_order_of_reads(index)) {
                flow.ins.push_back(std::move(one.end));
                flow.others.push_back(one.writer);
            }
            flow.outs.push_back(joined.take_write_end());
            ends.in = joined.take_read_end();
            wiring_.flows.push_back(std::move(flow));
        }
        if (!arriving.empty() && may_wait_for_values(index)) hold_input(index, arriving.front().writer);
        if (ends.in) ends.in_gauge = std::make_shared<const PipeGauge>(ends.in.get());
    }

    /// Whether a stage takes values through the relay, from stages that may have to write before they give them.
    [[nodiscard]] bool may_wait_for_values(std::size_t index) const {
        const StageSpec& spec = specs_[index];
        return std::any_of(spec.reads.begin(), spec.reads.end(), [&](std::size_t writer) {
            const bool is_function_to_program = specs_[writer].is_function() && spec.takes_values();
            const bool takes = spec.takes_values() || spec.is_function();
            return is_function_to_program || (takes && specs_[writer].takes_values());
        });
    }

    void hold_input(std::size_t index, std::size_t writer) {
        pipes::Pipe held = pipes::Pipe::open(pipe_bytes_);
        WiredFlow flow{.is_tee = true, .holds = true, .ins = {}, .outs = {}, .stage = writer, .others = {index}};
        flow.ins.push_back(std::move(wiring_.stages[index].in));
        flow.outs.push_back(held.take_write_end());
        wiring_.stages[index].in = held.take_read_end();
        wiring_.flows.push_back(std::move(flow));
    }

    struct Arriving {
        UniqueFd end;
        std::size_t writer = 0;
    };

    [[nodiscard]] std::vector<Arriving>& in_order_of_reads(std::size_t index) {
        const Numbers& reads = specs_[index].reads;
        auto& arriving = ends_to_join_[index];
        const auto place = [&](const Arriving& one) { return std::find(reads.begin(), reads.end(), one.writer); };
        std::stable_sort(arriving.begin(), arriving.end(),
                         [&](const Arriving& a, const Arriving& b) { return place(a) < place(b); });
        return arriving;
    }

    void open_channels(std::size_t index) {
        const StageSpec& spec = specs_[index];
        if (spec.takes_values()) return connect_program(index);
        if (!spec.is_function()) return;
        for (const std::size_t writer : spec.reads) {
            if (specs_[writer].takes_values()) connect_to_function(writer, index);
            if (!specs_[writer].is_function()) continue;
            BoundedChannel channel = BoundedChannel::open(specs_[writer].bounds.under_way, true);
            wiring_.stages[writer].gives.push_back(std::move(channel.sender));
            wiring_.stages[index].takes.push_back(std::move(channel.receiver));
        }
        if (spec.to_caller) {
            BoundedChannel channel = BoundedChannel::open(spec.bounds.under_way);
            wiring_.stages[index].gives.push_back(std::move(channel.sender));
            wiring_.outputs[index].emplace(std::move(channel.receiver));
        }
    }

    void connect_program(std::size_t index) {
        const StageSpec& spec = specs_[index];
        auto [ours, theirs] = vmcow::sys::open_message_sockets();
        wiring_.stages[index].values = std::move(theirs);
        wiring_.relay->add_program(index, std::move(ours), spec.join == pipes::Join::by_line, spec.to_caller);
        for (const std::size_t writer : spec.reads) {
            if (specs_[writer].takes_values()) {
                wiring_.relay->read_program(index, writer);
            } else if (specs_[writer].is_function()) {
                BoundedChannel channel = BoundedChannel::open(specs_[writer].bounds.under_way);
                wiring_.stages[writer].gives.push_back(std::move(channel.sender));
                wiring_.relay->read_function(index, writer, std::move(channel.receiver));
            }
        }
    }

    void connect_to_function(std::size_t writer, std::size_t index) {
        BoundedChannel channel = BoundedChannel::open(specs_[writer].bounds.under_way);
        wiring_.relay->give_function(writer, std::move(channel.sender));
        wiring_.stages[index].takes.push_back(std::move(channel.receiver));
    }

    const std::deque<StageSpec>& specs_;
    std::optional<std::size_t> pipe_bytes_;
    std::span<const vmcow::TypedSnapshot> initial_values_;
    std::vector<Numbers> byte_readers_;
    Numbers byte_writers_;  // for each stage: how many stages write bytes that it reads
    std::vector<std::vector<Arriving>> ends_to_join_;
    Wiring wiring_;
};

}  // namespace

Wiring Wiring::open(const std::deque<StageSpec>& specs, const PipelineOptions& options) {
    return Wirer(specs, options).run();
}

StageEnds Wiring::take_ends(std::size_t stage, const PipelineOptions& options) {
    if (const auto& next = next_stages[stage]) {
        pipes::Pipe pipe = pipes::Pipe::open(options.pipe_bytes);
        StageEnds& writer = stages[stage];
        StageEnds& reader = stages[*next];
        writer.pipe_bytes = pipe.capacity_bytes();
        reader.in = pipe.take_read_end();
        writer.out = pipe.take_write_end();
        writer.out_gauge = std::make_shared<const PipeGauge>(writer.out.get());
        reader.in_gauge = writer.out_gauge;
    }
    return std::move(stages[stage]);
}

void Wiring::close_all() noexcept {
    for (StageEnds& ends : stages) {
        ends.in.reset();
        ends.out.reset();
        for (BoundedReceiver& receiver : ends.takes) receiver.close();
        for (BoundedSender& sender : ends.gives) sender.close();
        ends.values.reset();
    }
    for (WiredFlow& flow : flows) {
        for (UniqueFd& end : flow.ins) end.reset();
        for (UniqueFd& end : flow.outs) end.reset();
    }
    for (auto& output : outputs) {
        if (output) output->close();
    }
    if (relay) relay->close_all();
}

std::vector<std::vector<std::size_t>> readers_of(const std::deque<StageSpec>& specs) {
    std::vector<std::vector<std::size_t>> readers(specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) {
        for (const std::size_t writer : specs[i].reads) {
            VMCOW_ASSERT(writer < i && "a stage reads earlier ones only");
            readers[writer].push_back(i);
        }
    }
    return readers;
}

}  // namespace procrun
