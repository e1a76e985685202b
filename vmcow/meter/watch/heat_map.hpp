#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "vmcow/meter/watch/watch_sample.hpp"

namespace vmcow::meter {

/// Copied pages by address and time, in bounded memory: at most 96 moments, and a process has at most 256 buckets with
/// copies.
///
/// Shape: if there are more moments, every second moment is dropped, and from then on only every second one is kept. If
///        there are more buckets, each becomes twice as long, beginning with 2 MiB.
class HeatMap {
public:
    void add(const FamilySample& sample);

    /// Neighbouring buckets of one process, with gaps of less than 16 buckets between them.
    struct Range {
        pid_t pid = 0;
        std::uint64_t start = 0;
        std::uint64_t end = 0;
        std::uint64_t bucket_bytes = 0;
        std::vector<double> times;
        std::vector<std::vector<std::uint64_t>> copied_pages;  ///< one row for each time
    };
    [[nodiscard]] std::vector<Range> ranges() const;

private:
    struct Row {
        double elapsed;
        std::map<std::uint64_t, std::uint64_t> copied;  ///< by bucket
    };
    struct Process {
        unsigned shift = 0;  ///< a bucket is 2 MiB << shift
        std::vector<Row> rows;
    };
    static void coarsen(Process& process);
    void thin_out();

    std::map<pid_t, Process> processes_;
    std::uint64_t seen_ = 0;
    std::uint64_t stride_ = 1;
    std::uint64_t kept_ = 0;
};

}  // namespace vmcow::meter
