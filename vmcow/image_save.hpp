#pragma once

#include <cstdint>
#include <filesystem>

#include "vmcow/image_file.hpp"
#include "vmcow/sys/clone_range.hpp"

namespace vmcow {

/// Shares blocks between files: sys::clone_range.
using CloneRange = decltype(&sys::clone_range);

/// `save_image` with another way to share blocks, for file systems that cannot.
SaveReport save_image(const Snapshot& snapshot, const std::filesystem::path& path, const SaveOptions& options,
                      CloneRange clone);

}  // namespace vmcow
