#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/support/images.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/view.hpp"

/// What the tests of image files share.
namespace tests {

/// Options without fsync(2), so that tests do not wait for the disk.
inline const vmcow::SaveOptions kFast{.sync = false};

[[nodiscard]] inline vmcow::SaveOptions relative_to(const std::string& base, std::uint64_t type = 0) {
    return {.type = type, .relative_to = base, .sync = false};
}

/// A relative of `snapshot` in which one byte of each of `pages` is `mark`.
[[nodiscard]] inline vmcow::Snapshot with_pages_changed(const vmcow::Snapshot& snapshot, const Pages& pages,
                                                        std::byte mark) {
    vmcow::View view = snapshot.map_private();
    write_pages(view, pages, mark);
    return view.capture();
}

}  // namespace tests
