#pragma once

#include <cstdint>
#include <string>

namespace vmcow::cli {

/// Bytes with the unit that leaves one to four digits before the point, in powers of 1024:
/// "512 B", "4.0 KiB", "1.2 GiB".
[[nodiscard]] std::string human_bytes(std::uint64_t bytes);

/// A time with the unit that suits it: "850 ns", "3.4 ms", "12.5 s", "2 min 05 s", "1 h 02 min". A negative time keeps
/// its sign; NaN and infinity are "?".
[[nodiscard]] std::string human_seconds(double seconds);

/// A count with its digits in groups of three: "65,530".
[[nodiscard]] std::string human_count(std::uint64_t count);

}  // namespace vmcow::cli
