#include "procrun/worker/worker_call.hpp"

#include <algorithm>
#include <array>
#include <system_error>

#include "procrun/worker/sent_image.hpp"
#include "vmcow/image/resident_view.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {

std::size_t CallImage::grow(std::size_t bytes) {
    const bool has_file = view == nullptr && sent == nullptr;
    const std::size_t room = has_file ? capacity - std::min<std::size_t>(capacity, extent_bytes) : kGrowthRoom;
    // A value that is sent comes back as a whole, so it grows in small steps.
    const std::size_t least = vmcow::round_up(bytes, kSentAlignment);
    const auto steps = sent == nullptr || extent_bytes > kLargestSent
                           ? vmcow::growth_steps(extent_bytes, bytes)
                           : std::array{std::max(least, vmcow::round_up(extent_bytes / 2, kSentAlignment)), least};
    for (const std::size_t wanted : steps) {
        if (wanted > room) continue;
        try {
            if (view != nullptr) view->grow(extent_bytes + wanted);
            if (sent != nullptr) sent->extend(extent_bytes + wanted);
        } catch (const std::system_error&) {
            continue;
        }
        extent_bytes += wanted;
        return wanted;
    }
    return 0;
}

}  // namespace procrun::detail
