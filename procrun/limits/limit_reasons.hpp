#pragma once

#include <cstdint>
#include <string>

namespace procrun {

// The text of an outcome when a call was ended because of a limit.

/// "processor time: 112 ms of at most 100 ms". Pre: more is used than the limit.
[[nodiscard]] std::string processor_limit_reason(std::uint64_t used_ns, std::uint64_t limit_ns);
/// "memory: 80.3 MiB of at most 64.0 MiB (polled)". Pre: more is used than the limit.
[[nodiscard]] std::string memory_limit_reason(std::uint64_t used_bytes, std::uint64_t limit_bytes);
/// "copied pages: 5210 of at most 4096". Pre: more is used than the limit.
[[nodiscard]] std::string copied_limit_reason(std::uint64_t used_pages, std::uint64_t limit_pages);

/// "memory: more than 64.0 MiB (cgroup)", for a limit that a cgroup has enforced.
[[nodiscard]] std::string cgroup_limit_reason(std::uint64_t memory_bytes);

/// "80.3 MiB of at most 64.0 MiB", with enough digits to tell the two apart. Pre: more is used than the limit.
[[nodiscard]] std::string bytes_of_at_most(std::uint64_t used, std::uint64_t limit);

}  // namespace procrun
