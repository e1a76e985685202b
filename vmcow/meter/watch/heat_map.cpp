#include "vmcow/meter/watch/heat_map.hpp"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

namespace vmcow::meter {
namespace {

constexpr std::size_t kMostMoments = 96;
constexpr std::size_t kMostBuckets = 256;
constexpr std::uint64_t kGapBuckets = 16;

}  // namespace

void HeatMap::coarsen(Process& process) {
    process.shift += 1;
    for (Row& row : process.rows) {
        std::map<std::uint64_t, std::uint64_t> halved;
        for (const auto& [bucket, pages] : row.copied) halved[bucket / 2] += pages;
        row.copied = std::move(halved);
    }
}

/// Drops every second moment for all processes.
void HeatMap::thin_out() {
    stride_ *= 2;
    std::set<double> all;
    for (const auto& [pid, process] : processes_) {
        for (const Row& row : process.rows) all.insert(row.elapsed);
    }
    std::set<double> dropped;
    bool drop = false;
    for (const double elapsed : all) {
        if (drop) dropped.insert(elapsed);
        drop = !drop;
    }
    for (auto& [pid, process] : processes_) {
        std::erase_if(process.rows, [&](const Row& row) { return dropped.contains(row.elapsed); });
    }
    kept_ = all.size() - dropped.size();
}

void HeatMap::add(const FamilySample& sample) {
    if (seen_++ % stride_ != 0) return;
    for (const ProcessSample& each : sample.processes) {
        const bool is_known = processes_.contains(each.pid);
        if (each.copies.empty() && !is_known) continue;
        Process& process = processes_[each.pid];
        Row row{sample.elapsed, {}};
        for (const ChunkCopies& copies : each.copies) row.copied[copies.chunk >> process.shift] += copies.pages;
        process.rows.push_back(std::move(row));
        while (process.rows.back().copied.size() > kMostBuckets) coarsen(process);
    }
    if (++kept_ > kMostMoments) thin_out();
}

std::vector<HeatMap::Range> HeatMap::ranges() const {
    std::vector<Range> ranges;
    for (const auto& [pid, process] : processes_) {
        std::set<std::uint64_t> buckets;
        for (const Row& row : process.rows) {
            for (const auto& [bucket, pages] : row.copied) buckets.insert(bucket);
        }
        for (auto at = buckets.begin(); at != buckets.end();) {
            const std::uint64_t first = *at;
            std::uint64_t last = first;
            while (at != buckets.end() && *at - last < kGapBuckets) last = *at++;
            Range range;
            range.pid = pid;
            range.bucket_bytes = std::uint64_t{kHugeBytes} << process.shift;
            range.start = first * range.bucket_bytes;
            range.end = (last + 1) * range.bucket_bytes;
            for (const Row& row : process.rows) {
                range.times.push_back(row.elapsed);
                std::vector<std::uint64_t> pages(last - first + 1, 0);
                for (auto cell = row.copied.lower_bound(first); cell != row.copied.end() && cell->first <= last;
                     ++cell) {
                    pages[cell->first - first] = cell->second;
                }
                range.copied_pages.push_back(std::move(pages));
            }
            ranges.push_back(std::move(range));
        }
    }
    return ranges;
}

}  // namespace vmcow::meter
