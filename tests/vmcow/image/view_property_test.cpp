// Tests random histories of a view against a deep copy of its bytes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using tests::Pages;
using tests::same_bytes;

using Bytes = std::vector<std::byte>;

/// A view, deep copies of its bytes and of those of its snapshot, and the pages that were written to.
class Modelled {
public:
    explicit Modelled(Bytes content) : view_(tests::snapshot_of(content)), below_(content), now_(std::move(content)) {}

    /// Writes `length` bytes from `at` on: the bytes that are there if `same`, else other ones.
    void write(std::size_t at, std::size_t length, bool same, std::byte mask) {
        volatile std::byte* const bytes = view_.bytes().data();
        for (std::size_t i = at; i < std::min(at + length, now_.size()); ++i) {
            if (!same) now_[i] ^= mask;
            bytes[i] = now_[i];
            written_.insert(i / kPageBytes);
        }
    }
    void reset() {
        view_.reset();
        now_ = below_;
        written_.clear();
    }
    /// Captures the view, and continues with a view of the captured snapshot.
    void map_captured(bool flatten) {
        const Snapshot captured = view_.capture();
        check_captured(captured);
        view_ = View(flatten ? captured.flatten() : captured);
        below_ = now_;
        written_.clear();
        placed_ = tests::pages_in(view_.snapshot().layers()->placed());
    }
    /// Captures the view, which goes on unchanged.
    void capture() { check_captured(view_.capture()); }

    void check() const {
        RC_ASSERT(same_bytes(now_, view_.bytes()));
        const Snapshot below = view_.snapshot();
        RC_ASSERT(same_bytes(below_, below.bytes()));
        // Placed pages are private before the first write to them.
        Pages copied;
        std::set_difference(written_.begin(), written_.end(), placed_.begin(), placed_.end(),
                            std::inserter(copied, copied.begin()));
        for (const auto method : {sys::best_page_scan(), sys::PageScanMethod::pagemap_bits}) {
            RC_ASSERT(tests::pages_in(view_.copied_runs(method)) == copied);
        }
        const PageChanges changes = view_.changes();
        RC_ASSERT(changes.copied.value == copied.size());
        RC_ASSERT(changes.changed_bytes == differing_bytes());
        RC_ASSERT(changes.identical.value == copied.size() - differing_pages_in(copied));
    }

private:
    void check_captured(const Snapshot& captured) const {
        RC_ASSERT(captured.extent_bytes() == now_.size());
        RC_ASSERT(same_bytes(captured.bytes(), now_));
        RC_ASSERT(captured.delta_count() <= Layers::kMaxDeltas);
        if (same_bytes(now_, below_)) RC_ASSERT(captured.layers() == view_.snapshot().layers());
    }
    [[nodiscard]] static std::span<const std::byte> page_of(const Bytes& bytes, std::uint64_t page) {
        const std::size_t at = page * kPageBytes;
        return std::span(bytes).subspan(at, std::min(kPageBytes, bytes.size() - at));
    }
    [[nodiscard]] bool differs(std::uint64_t page) const {
        return !same_bytes(page_of(now_, page), page_of(below_, page));
    }
    [[nodiscard]] std::uint64_t differing_bytes() const {
        std::uint64_t differing = 0;
        for (std::uint64_t page = 0; page < pages_of(now_.size()).value; ++page) {
            if (!differs(page)) continue;
            const auto now = page_of(now_, page);
            const auto below = page_of(below_, page);
            for (std::size_t i = 0; i < now.size(); ++i) differing += now[i] != below[i] ? 1U : 0U;
        }
        return differing;
    }
    [[nodiscard]] std::uint64_t differing_pages_in(const Pages& pages) const {
        return static_cast<std::uint64_t>(
            std::count_if(pages.begin(), pages.end(), [&](std::uint64_t page) { return differs(page); }));
    }

    View view_;
    Bytes below_;
    Bytes now_;
    Pages written_;
    Pages placed_;
};

/// Lengths of a few bytes, of some pages, and of runs that are long enough to be mapped.
rc::Gen<std::size_t> any_length() {
    return rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 16), rc::gen::inRange<std::size_t>(1, 3 * kPageBytes),
                          rc::gen::inRange<std::size_t>(6 * kPageBytes, 12 * kPageBytes));
}

void take_a_step(Modelled& modelled, std::size_t bytes) {
    const auto step = *rc::gen::weightedElement<int>({{8, 0}, {3, 1}, {2, 2}, {3, 3}, {1, 4}, {1, 5}});
    switch (step) {
        case 0:
        case 1:
            modelled.write(*rc::gen::inRange<std::size_t>(0, bytes), *any_length(), step == 1,
                           *rc::gen::element(std::byte{1}, std::byte{0x80}, std::byte{0xff}));
            break;
        case 2:
            modelled.capture();
            break;
        case 3:
            modelled.map_captured(false);
            break;
        case 4:
            modelled.map_captured(true);
            break;
        default:
            modelled.reset();
    }
}

RC_GTEST_PROP(ViewPropertyTest, AnyHistoryLeavesTheBytesAndTheCountsOfADeepCopy, ()) {
    const auto bytes =
        *rc::gen::element(std::size_t{1}, kPageBytes - 1, kPageBytes, kPageBytes + 1, 37 * kPageBytes - 5,
                          64 * kPageBytes, kHugeBytes - 1, kHugeBytes, kHugeBytes + 1, kHugeBytes + 3 * kPageBytes);
    Modelled modelled(tests::noise(bytes, *rc::gen::arbitrary<unsigned>()));
    const auto steps = *rc::gen::inRange(1, 25);
    for (int i = 0; i < steps; ++i) {
        take_a_step(modelled, bytes);
        modelled.check();
    }
}

}  // namespace
