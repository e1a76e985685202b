#include "vmcow/meter/model/occupancy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "vmcow/meter/model/probability.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

constexpr std::uint64_t kLargestPairCount = std::uint64_t{1} << 24;

Expectation from_variance(double blocks, double variance) {
    // A variance this small is rounding of the sums: the true variance is 0.
    return {blocks, variance > 1e-9 * blocks ? std::sqrt(variance) : 0.0};
}

/// The blocks of an image under uniform writes that start anywhere. A write touches a block if it begins in the block's
/// interval of places. At either edge, block k counted from that end of the image has an interval of `first + k b`
/// places that begins at the end, so each of these intervals contains the ones before it. In the middle, every interval
/// has b+w-1 places and lies b places behind the one before:
///
///     places   0 ................................................. S-1
///     left     [---]  [------]                                           first = b
///     middle       [--------]  [--------]  …
///     right                                      [------]  [---]         first = bytes of the last block
///
/// If writes are longer than half the image, they touch the blocks in the middle from every place.
class UniformImage {
public:
    UniformImage(const Workload& workload, std::uint64_t block_bytes)
        : length_(workload.write_bytes),
          block_(block_bytes),
          writes_(static_cast<double>(workload.writes)),
          places_(workload.size_bytes - length_ + 1),
          blocks_((workload.size_bytes - 1) / block_ + 1),
          reach_((block_ + length_ - 2) / block_) {
        const std::uint64_t left = (length_ - 1) / block_ + 1;
        const std::uint64_t right = (places_ - 1) / block_;
        left_ = {block_, std::min(left, right)};
        right_ = {workload.size_bytes - (blocks_ - 1) * block_, blocks_ - std::max(left, right)};
        middle_ = right > left ? right - left : 0;
        always_ = left > right ? left - right : 0;
    }

    [[nodiscard]] Expectation expectation() const {
        const double blocks = static_cast<double>(always_) + sum_hit(left_) + sum_hit(right_) +
                              static_cast<double>(middle_) * some_hit(middle_share(), writes_);
        const double pairs = middle_pairs() + edge_and_middle(left_) + edge_and_middle(right_) + edge_and_edge();
        return from_variance(blocks, own_variance() + 2 * pairs);
    }

private:
    struct Edge {
        std::uint64_t first = 0;
        std::uint64_t count = 0;
    };

    [[nodiscard]] double share(std::uint64_t places) const {
        return static_cast<double>(std::min(places, places_)) / static_cast<double>(places_);
    }
    [[nodiscard]] double share_at(const Edge& edge, std::uint64_t k) const { return share(edge.first + k * block_); }
    [[nodiscard]] double middle_share() const { return share(block_ + length_ - 1); }

    [[nodiscard]] double sum_hit(const Edge& edge) const {
        double sum = 0;
        for (std::uint64_t k = 0; k < edge.count; ++k) sum += some_hit(share_at(edge, k), writes_);
        return sum;
    }

    /// The variances of all blocks, and twice the covariances within each edge. If writes miss the inner one of two
    /// blocks of an edge, they also miss the outer one.
    [[nodiscard]] double own_variance() const {
        double sum =
            static_cast<double>(middle_) * all_miss(middle_share(), writes_) * some_hit(middle_share(), writes_);
        for (const Edge& edge : {left_, right_}) {
            double outer_hit = 0;
            for (std::uint64_t k = 0; k < edge.count; ++k) {
                const double hit = some_hit(share_at(edge, k), writes_);
                sum += all_miss(share_at(edge, k), writes_) * (hit + 2 * outer_hit);
                outer_hit += hit;
            }
        }
        return sum;
    }

    [[nodiscard]] double middle_pairs() const {
        double sum = 0;
        for (std::uint64_t d = 1; d < middle_ && d <= reach_; ++d) {
            const double both = share(block_ + length_ - 1 - d * block_);
            sum += static_cast<double>(middle_ - d) * covariance(middle_share(), middle_share(), both, writes_);
        }
        if (middle_ > reach_ + 1) {
            const auto left = static_cast<double>(middle_ - 1 - reach_);
            sum += left * (left + 1) / 2 * covariance(middle_share(), middle_share(), 0, writes_);
        }
        return sum;
    }

    /// The covariances between blocks of an edge and blocks of the middle. A near block of the middle is one that a
    /// write can touch together with block k of the edge: both are missed if no write begins before the end of the near
    /// block's interval.
    [[nodiscard]] double edge_and_middle(const Edge& edge) const {
        double sum = 0;
        double near_missed = 0;
        std::uint64_t near = 0;
        for (std::uint64_t k = 0; k < edge.count && middle_ > 0; ++k) {
            for (; near < middle_ && edge.count + near <= k + reach_; ++near) {
                near_missed += all_miss(share_at(edge, edge.count + near), writes_);
            }
            const double independent = all_miss(share_at(edge, k), writes_) * all_miss(middle_share(), writes_);
            sum += near_missed - static_cast<double>(near) * independent;
            sum += static_cast<double>(middle_ - near) * covariance(share_at(edge, k), middle_share(), 0, writes_);
        }
        return sum;
    }

    /// The covariances between blocks of opposite edges. The probability that two such blocks are both missed depends
    /// only on the sum of their positions.
    [[nodiscard]] double edge_and_edge() const {
        if (left_.count == 0 || right_.count == 0) return 0;
        double sum = 0;
        for (std::uint64_t k = 0; k <= left_.count + right_.count - 2; ++k) {
            const std::uint64_t lowest = k < right_.count ? 0 : k - right_.count + 1;
            const std::uint64_t pairs = std::min(k, left_.count - 1) - lowest + 1;
            sum += static_cast<double>(pairs) * all_miss(share(left_.first + right_.first + k * block_), writes_);
        }
        return sum - (static_cast<double>(left_.count) - sum_hit(left_)) *
                         (static_cast<double>(right_.count) - sum_hit(right_));
    }

    std::uint64_t length_;
    std::uint64_t block_;
    double writes_;
    std::uint64_t places_;
    std::uint64_t blocks_;
    std::uint64_t reach_;  // the largest distance between two blocks that one write touches
    Edge left_;
    Edge right_;
    std::uint64_t middle_ = 0;
    std::uint64_t always_ = 0;
};

/// The distribution of the places at which a write begins.
class Density {
public:
    explicit Density(const Workload& workload) : pattern_(workload.pattern), starts_(workload) {
        if (pattern_ != Pattern::zipf) return;
        const Scatter scatter(starts_.units);
        before_unit_.resize(starts_.units + 1);
        for (std::uint64_t rank = 0; rank < starts_.units; ++rank) {
            before_unit_[scatter(rank) + 1] = ZipfRanks::weight(static_cast<double>(rank + 1));
        }
        for (std::uint64_t unit = 0; unit < starts_.units; ++unit) before_unit_[unit + 1] += before_unit_[unit];
    }

    /// The probability that a write begins at one of the places `from` … `to`, `to` excluded.
    [[nodiscard]] double between(std::uint64_t from, std::uint64_t to) const {
        if (from >= to) return 0;
        switch (pattern_) {
            case Pattern::zipf:
                return (zipf_before(to) - zipf_before(from)) / before_unit_.back();
            case Pattern::hot:
                if (starts_.hot < starts_.count) return hot_between(from, to);
                break;
            case Pattern::uniform:
            case Pattern::sequential:
            case Pattern::stride:
            case Pattern::trace:
                break;
        }
        return ratio(to - from, starts_.count);
    }

    [[nodiscard]] const Starts& starts() const { return starts_; }

private:
    static double ratio(std::uint64_t a, std::uint64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

    [[nodiscard]] double zipf_before(std::uint64_t place) const {
        const std::uint64_t unit = place / starts_.per_unit;
        if (unit >= starts_.units) return before_unit_.back();
        const std::uint64_t first = unit * starts_.per_unit;
        const std::uint64_t places = std::min(starts_.per_unit, starts_.count - first);
        return before_unit_[unit] + (before_unit_[unit + 1] - before_unit_[unit]) * ratio(place - first, places);
    }

    [[nodiscard]] double hot_between(std::uint64_t from, std::uint64_t to) const {
        const std::uint64_t hot = std::min(to, starts_.hot) - std::min(from, starts_.hot);
        const std::uint64_t cold = to - from - hot;
        constexpr double kHotShare = static_cast<double>(Starts::kHotWritesOfTen) / 10;
        return kHotShare * ratio(hot, starts_.hot) + (1 - kHotShare) * ratio(cold, starts_.count - starts_.hot);
    }

    Pattern pattern_;
    Starts starts_;
    std::vector<double> before_unit_;  // the weight of all units before each, not normalised
};

/// The covariances of all pairs of blocks, summed up as if no write could touch two blocks. With x = p/(1-p),
///
///     (1 - p(i) - p(j))^n - q(i) q(j) = sum over k from 1 of C(n,k) (-1)^k q(i) x(i)^k q(j) x(j)^k
///
/// so the double sum over blocks is a sum over k of squares of single sums. Of its n terms, those around k = n p^2
/// matter, and n p is below 60 for a block that is not almost certain to be hit.
class DistantPairs {
public:
    explicit DistantPairs(double writes) : writes_(writes) {}

    /// Pre: the block is not certain to be hit.
    void add(double p) {
        const double odds = p / (1 - p);
        double term = all_miss(p, writes_);
        for (std::size_t k = 0; k < sums_.size() && term > 1e-30; ++k) {
            const auto done = static_cast<double>(k);
            if (done >= writes_) break;
            term *= odds * std::sqrt((writes_ - done) / (done + 1));
            sums_[k] += term;
        }
    }

    [[nodiscard]] double total() const {
        double sum = 0;
        for (std::size_t k = 0; k < sums_.size(); ++k) sum += (k % 2 == 0 ? -1 : 1) * sums_[k] * sums_[k];
        return sum;
    }

private:
    double writes_;
    std::array<double, 128> sums_{};
};

/// Whether a block is hit almost certainly: one that is missed this rarely adds nothing to the variance.
bool is_certain(double p, double n) { return all_miss(p, n) < 1e-26; }

/// What `DistantPairs` counts for one pair of blocks, also for a block paired with itself and for blocks that one write
/// can touch together. There 1-a-b may be negative; the series still adds up to the n-th power of 1-a-b.
double distant_pair(double a, double b, double n) {
    if (a + b <= 1) return covariance(a, b, 0, n);
    return std::pow(1 - a - b, n) - all_miss(a, n) * all_miss(b, n);
}

/// The places from which a write touches one block: `from` to `to`, `to` excluded.
struct Places {
    std::uint64_t from;
    std::uint64_t to;
};

}  // namespace

Expectation expect_uniform(const Workload& workload, std::uint64_t block_bytes) {
    VMCOW_ASSERT(workload.pattern == Pattern::uniform && !workload.aligned);
    return UniformImage(workload, block_bytes).expectation();
}

Expectation expect_by_block(const Workload& workload, std::uint64_t block_bytes) {
    const Density density(workload);
    const Starts& starts = density.starts();
    const std::uint64_t blocks = (workload.size_bytes - 1) / block_bytes + 1;
    const std::uint64_t reach = (block_bytes + workload.write_bytes - 2) / block_bytes;
    const bool pairs_wanted = reach == 0 || blocks <= kLargestPairCount / reach;
    const auto n = static_cast<double>(workload.writes);
    const auto places_of = [&](std::uint64_t i) {
        const std::uint64_t past = i * block_bytes + 1;  // the earliest end of a write that touches block i
        const std::uint64_t start = past > workload.write_bytes ? past - workload.write_bytes : 0;
        return Places{(start + starts.step_bytes - 1) / starts.step_bytes,
                      std::min(starts.count, ((i + 1) * block_bytes - 1) / starts.step_bytes + 1)};
    };
    double sum = 0;
    double variance = 0;
    DistantPairs distant(n);
    for (std::uint64_t i = 0; i < blocks; ++i) {
        const Places places = places_of(i);
        const double p = density.between(places.from, places.to);
        if (p <= 0) continue;
        sum += some_hit(p, n);
        if (!pairs_wanted || is_certain(p, n)) continue;
        variance += all_miss(p, n) * some_hit(p, n) - distant_pair(p, p, n);
        distant.add(p);
        for (std::uint64_t j = i + 1; j < blocks; ++j) {
            const Places near = places_of(j);
            if (near.from >= places.to) break;
            const double near_p = density.between(near.from, near.to);
            if (is_certain(near_p, n)) continue;
            const double both = density.between(near.from, places.to);
            variance += 2 * (covariance(p, near_p, both, n) - distant_pair(p, near_p, n));
        }
    }
    if (!pairs_wanted) return {sum, std::nullopt};
    return from_variance(sum, variance + distant.total());
}

}  // namespace vmcow::meter
