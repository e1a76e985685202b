#pragma once

#include <cstdint>
#include <filesystem>

#include "vmcow/file/save_control.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/clone_range.hpp"
#include "vmcow/sys/unfinished_file.hpp"

namespace vmcow {

/// The function that shares blocks between files: sys::clone_range, or another one with its interface.
using CloneRange = decltype(&sys::clone_range);

/// `save_image` with a given function to share blocks, and a given way to keep the file until it is complete: so tests
/// reach each path on any file system.
SaveReport save_image(const Snapshot& snapshot, const std::filesystem::path& path, const SaveOptions& options,
                      CloneRange clone, sys::UnfinishedFile::Way way = sys::UnfinishedFile::Way::best);

/// `save_image` that another thread watches. Throws: also ECANCELED.
SaveReport save_image(const Snapshot& snapshot, const std::filesystem::path& path, const SaveOptions& options,
                      SaveControl& control);

}  // namespace vmcow
