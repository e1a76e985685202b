#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "vmcow/measure/watch_sample.hpp"

namespace vmcow::measure {

/// Where copying leads, if it goes on as it did lately.
struct Outlook {
    std::optional<std::uint64_t> limit_bytes = {};
    std::string limit_source = {};                       ///< "--limit", or "cgroup /name"; empty without a limit
    std::optional<std::uint64_t> used_bytes = {};        ///< of the limit
    std::optional<double> copied_bytes_per_second = {};  ///< nothing before the second sample
    std::optional<double> new_bytes_per_second = {};
    /// Until the limit is reached by copies and new memory at this rate; 0 when it has been. Nothing where it is not
    /// known, where nothing grows, and where all that can still be copied would fit and no memory is allocated.
    std::optional<double> seconds_left = {};
    /// What copying can add at most: what is still shared with parents.
    std::uint64_t copyable_bytes = 0;
};

/// Looks at the samples of the last ten seconds, or at the last two. A process that ends takes its copies with it; what
/// it copied stays in the rate.
class Forecast {
public:
    /// Anonymous memory of all processes, each shared page counted once, may reach `limit_bytes`.
    explicit Forecast(std::optional<std::uint64_t> limit_bytes) : limit_bytes_(limit_bytes) {}

    /// `group`: the limit of the processes' control group, if it has one; used where no other limit is given.
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
        std::uint64_t copied_bytes;  ///< all that was ever seen to be added
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

}  // namespace vmcow::measure
