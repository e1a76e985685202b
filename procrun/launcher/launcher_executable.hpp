#pragma once

#include <cstddef>
#include <span>

namespace procrun::detail {

/// The bytes of the launcher's executable, which the library contains.
[[nodiscard]] std::span<const std::byte> launcher_executable() noexcept;

}  // namespace procrun::detail
