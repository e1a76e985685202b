#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows about what is carried: a value of huge chunks, whole. Every process is there before the clock starts,
/// which stops when the last one has what it is to get.
///
///     value_stages/1GiB  the value goes by descriptor through the three function stages of a procrun::Pipeline that
///                        come after the one that gives it, one at a time; the last reads a byte of it. A mean of many
///     pipe_stages/1GiB   its bytes go through three processes by read(2), write(2) and pipes of the kernel's size; the
///                        last one only reads
///     splice_value/1GiB  the value to a program that reads it by 64 KiB, out of its image
///     write_value/1GiB   the same by write(2) from where the value is in memory. Both through a pipe of 1 MiB
///     fan_out/N          bytes that a program writes by write(2), to N programs that read them by 64 KiB; the time is
///                        that of all, divided by N
///     raw/one_pipe       the same with a pipe between the two programs, and nobody in between
void register_move_rows(const BenchSizes& sizes);

}  // namespace bench
