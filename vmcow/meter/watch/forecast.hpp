#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "vmcow/meter/watch/watch_sample.hpp"

namespace vmcow::meter {

/// What copying leads to, if it goes on at the recent rate.
struct Outlook {
    std::optional<std::uint64_t> limit_bytes = {};
    std::string limit_source = {};                       ///< "--limit", or "cgroup /name"; empty without a limit
    std::optional<std::uint64_t> used_bytes = {};        ///< of the limit
    std::optional<double> copied_bytes_per_second = {};  ///< nothing before the second sample
    std::optional<double> new_bytes_per_second = {};
    /// The time until copies and new memory reach the limit at this rate; 0 if they have reached it. Nothing if it is
    /// not known, if nothing grows, or if all that can still be copied would fit and no memory is allocated.
    std::optional<double> seconds_left = {};
    /// What copying can add at most: the pages that are still shared with parents.
    std::uint64_t copyable_bytes = 0;
};

/// Computes the outlook from the samples of the last ten seconds, or from the last two. A process that ends takes its
/// copies with it, but what it copied stays in the rate.
class Forecast {
public:
    /// `limit_bytes`: how much anonymous memory all processes may have, each shared page counted once.
    explicit Forecast(std::optional<std::uint64_t> limit_bytes) : limit_bytes_(limit_bytes) {}

    /// The limit of the processes' control group, which is used if no other limit is given.
    struct GroupLimit {
        std::string name;
        std::uint64_t limit_bytes = 0;
        std::uint64_t used_bytes = 0;
    };
    void add(const FamilySample& sample, const std::optional<GroupLimit>& group);
    [[nodiscard]] const Outlook& outlook() const noexcept { return outlook_; }

private:
    struct Point {
        double elapsed;
        std::uint64_t copied_bytes;  ///< all copies seen so far
        std::uint64_t new_bytes;
    };
    struct Last {
        std::uint64_t copied_bytes = 0;
        std::uint64_t new_bytes = 0;
    };

    std::optional<std::uint64_t> limit_bytes_;
    std::map<pid_t, Last> last_;
    std::deque<Point> points_;
    Outlook outlook_;
};

}  // namespace vmcow::meter
