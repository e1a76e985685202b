#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows about carrying a whole value of huge chunks. All processes run before the clock starts. The clock
/// stops when the last process has received everything.
///
///     value_stages/1GiB  the value goes by descriptor through the three function stages of a procrun::Pipeline that
///                        come after the stage that gives it, one at a time; the last stage reads a byte of it. The
///                        time is a mean of many
///     pipe_stages/1GiB   the bytes of the value go through three processes by read(2), write(2) and pipes of the
///                        kernel's default size; the last process only reads
///     splice_value/1GiB  the value is spliced from its image to a program that reads 64 KiB at a time, through a
///                        pipe of 1 MiB
///     write_value/1GiB   the value is written to such a program by write(2) from memory, through a pipe of 1 MiB
///     fan_out/N          bytes that a program writes by write(2) go to N programs that read 64 KiB at a time; the
///                        time is that of all, divided by N
///     raw/one_pipe       such bytes go through one pipe from the writing program to one reading program
void register_move_rows(const BenchSizes& sizes);

}  // namespace bench
