#include "vmcow/meter/watch/forecast.hpp"

#include <algorithm>

namespace vmcow::meter {
namespace {

constexpr double kWindowSeconds = 10;

std::uint64_t grown(std::uint64_t now, std::uint64_t before) { return now > before ? now - before : 0; }

}  // namespace

void Forecast::add(const FamilySample& sample, const std::optional<GroupLimit>& group) {
    Point point = points_.empty() ? Point{} : points_.back();
    point.elapsed = sample.elapsed;
    std::map<pid_t, Last> now;
    std::uint64_t anonymous = 0;
    std::uint64_t shared = 0;
    for (const ProcessSample& process : sample.processes) {
        const Last last{process.figures.copied.bytes(), process.figures.new_bytes};
        // What a process had when it was first seen was not added in this interval, except copies since its fork.
        if (const auto before = last_.find(process.pid); before != last_.end()) {
            point.copied_bytes += grown(last.copied_bytes, before->second.copied_bytes);
            point.new_bytes += grown(last.new_bytes, before->second.new_bytes);
        } else if (!points_.empty() && process.has_parent) {
            point.copied_bytes += last.copied_bytes;
        }
        now.emplace(process.pid, last);
        anonymous += process.figures.anonymous_bytes;
        shared += process.figures.shared_bytes;
    }
    last_ = std::move(now);
    points_.push_back(point);
    while (points_.size() > 2 && point.elapsed - points_[1].elapsed > kWindowSeconds) points_.pop_front();

    outlook_ = {};
    outlook_.copyable_bytes = shared;
    if (limit_bytes_) {
        outlook_.limit_bytes = limit_bytes_;
        outlook_.limit_source = "--limit";
        outlook_.used_bytes = grown(anonymous, shared);
    } else if (group) {
        outlook_.limit_bytes = group->limit_bytes;
        outlook_.limit_source = "cgroup " + group->name;
        outlook_.used_bytes = group->used_bytes;
    }
    const double seconds = point.elapsed - points_.front().elapsed;
    if (points_.size() < 2 || seconds <= 0) return;
    outlook_.copied_bytes_per_second = static_cast<double>(point.copied_bytes - points_.front().copied_bytes) / seconds;
    outlook_.new_bytes_per_second = static_cast<double>(point.new_bytes - points_.front().new_bytes) / seconds;
    if (!outlook_.limit_bytes) return;
    const std::uint64_t left = grown(*outlook_.limit_bytes, *outlook_.used_bytes);
    const double rate = *outlook_.copied_bytes_per_second + *outlook_.new_bytes_per_second;
    const bool fits = shared <= left && *outlook_.new_bytes_per_second == 0;
    if (left == 0) {
        outlook_.seconds_left = 0;
    } else if (rate > 0 && !fits) {
        outlook_.seconds_left = static_cast<double>(left) / rate;
    }
}

}  // namespace vmcow::meter
