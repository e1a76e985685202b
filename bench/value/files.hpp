#pragma once

#include "bench/value/rows.hpp"

namespace bench {

/// Adds the rows about values on disk, each beside plain reads and writes in the same folder. The folder is made beside
/// this program, and `end_files` removes it. What was written is on disk before the next round begins. The rows
/// `…_unsynced` leave out fsync on both sides.
///
///     value/save_delta        4096 pages of a value that was saved before are changed; saving these is timed: finding
///                             them, checksums, fsync and rename of the file, and fsync of the folder
///     raw/write_changed       as many pages, taken from a list, one pwrite each to a new file, and fsync
///     value/save/1GiB         a whole value saved
///     raw/write/1GiB          as many bytes of ordinary memory written 1 MiB at a time, and fsync
///     value/load/1GiB         the file mapped
///     value/load_and_use/1GiB the file mapped, and one byte read of each page, from the page cache
///     raw/read/1GiB           the file read into memory that has its pages already, from the page cache
void register_file_rows(const BenchSizes& sizes, const BaseValue& base);

/// Removes the folder.
void end_files();

}  // namespace bench
