#include "procrun/pipeline_wiring.hpp"

#include <fcntl.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "pipes/pipe.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

using Numbers = std::vector<std::size_t>;

/// Connects stages one after the other; what a stage reads is found there when its turn comes.
class Wirer {
public:
    Wirer(const std::vector<StageShape>& shapes, std::optional<std::size_t> pipe_bytes)
        : shapes_(shapes), pipe_bytes_(pipe_bytes), byte_readers_(shapes.size()), ends_to_join_(shapes.size()) {
        wiring_.stages.resize(shapes.size());
        wiring_.outputs.resize(shapes.size());
        const std::vector<Numbers> readers = readers_of(shapes);
        for (std::size_t i = 0; i < shapes.size(); ++i) {
            byte_readers_[i] = byte_readers_among(i, readers[i]);
        }
    }

    Wiring run() {
        for (std::size_t i = 0; i < shapes_.size(); ++i) open_output(i);
        for (std::size_t i = 0; i < shapes_.size(); ++i) open_input(i);
        for (std::size_t i = 0; i < shapes_.size(); ++i) open_channels(i);
        return std::move(wiring_);
    }

private:
    [[nodiscard]] Numbers byte_readers_among(std::size_t index, const Numbers& readers) const {
        if (!shapes_[index].is_function) return readers;
        Numbers programs;
        std::copy_if(readers.begin(), readers.end(), std::back_inserter(programs),
                     [&](std::size_t reader) { return !shapes_[reader].is_function; });
        return programs.empty() ? readers : programs;
    }

    /// What `index` writes, to one reader or to the pump.
    void open_output(std::size_t index) {
        const Numbers& readers = byte_readers_[index];
        if (readers.empty()) return;
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

    /// `end` is what `reader` reads, or one of those that are joined for it.
    void lead_to(std::size_t reader, UniqueFd end, std::size_t writer) {
        ends_to_join_[reader].push_back({std::move(end), writer});
    }

    void open_input(std::size_t index) {
        StageEnds& ends = wiring_.stages[index];
        auto& arriving = ends_to_join_[index];
        if (arriving.empty()) {
            // Values only: what the caller reads is not for this stage.
            if (!shapes_[index].reads.empty()) ends.in = vmcow::sys::open_file("/dev/null", O_RDONLY);
        } else if (arriving.size() == 1) {
            ends.in = std::move(arriving.front().end);
        } else {
            pipes::Pipe joined = pipes::Pipe::open(pipe_bytes_);
            WiredFlow flow{.ins = {}, .outs = {}, .join = shapes_[index].join, .stage = index, .others = {}};
            for (Arriving& one : in_order_of_reads(index)) {
                flow.ins.push_back(std::move(one.end));
                flow.others.push_back(one.writer);
            }
            flow.outs.push_back(joined.take_write_end());
            ends.in = joined.take_read_end();
            wiring_.flows.push_back(std::move(flow));
        }
        if (ends.in) ends.in_gauge = std::make_shared<const PipeGauge>(ends.in.get());
    }

    struct Arriving {
        UniqueFd end;
        std::size_t writer = 0;
    };

    [[nodiscard]] std::vector<Arriving>& in_order_of_reads(std::size_t index) {
        const Numbers& reads = shapes_[index].reads;
        auto& arriving = ends_to_join_[index];
        const auto place = [&](const Arriving& one) { return std::find(reads.begin(), reads.end(), one.writer); };
        std::stable_sort(arriving.begin(), arriving.end(),
                         [&](const Arriving& a, const Arriving& b) { return place(a) < place(b); });
        return arriving;
    }

    void open_channels(std::size_t index) {
        const StageShape& shape = shapes_[index];
        if (!shape.is_function) return;
        for (const std::size_t writer : shape.reads) {
            if (!shapes_[writer].is_function) continue;
            BoundedChannel channel = BoundedChannel::open(shapes_[writer].bounds.under_way, true);
            wiring_.stages[writer].gives.push_back(std::move(channel.sender));
            wiring_.stages[index].takes.push_back(std::move(channel.receiver));
        }
        if (shape.to_caller) {
            BoundedChannel channel = BoundedChannel::open(shape.bounds.under_way);
            wiring_.stages[index].gives.push_back(std::move(channel.sender));
            wiring_.outputs[index].emplace(std::move(channel.receiver));
        }
    }

    const std::vector<StageShape>& shapes_;
    std::optional<std::size_t> pipe_bytes_;
    std::vector<Numbers> byte_readers_;
    std::vector<std::vector<Arriving>> ends_to_join_;
    Wiring wiring_;
};

}  // namespace

Wiring Wiring::open(const std::vector<StageShape>& shapes, std::optional<std::size_t> pipe_bytes) {
    return Wirer(shapes, pipe_bytes).run();
}

void Wiring::close_all() noexcept {
    for (StageEnds& ends : stages) {
        ends.in.reset();
        ends.out.reset();
        for (BoundedReceiver& receiver : ends.takes) receiver.close();
        for (BoundedSender& sender : ends.gives) sender.close();
    }
    for (WiredFlow& flow : flows) {
        for (UniqueFd& end : flow.ins) end.reset();
        for (UniqueFd& end : flow.outs) end.reset();
    }
    for (auto& output : outputs) {
        if (output) output->close();
    }
}

std::vector<std::vector<std::size_t>> readers_of(const std::vector<StageShape>& shapes) {
    std::vector<std::vector<std::size_t>> readers(shapes.size());
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        for (const std::size_t writer : shapes[i].reads) readers[writer].push_back(i);
    }
    return readers;
}

}  // namespace procrun
