#pragma once

#include <cstddef>
#include <span>

namespace procrun::detail {

/// The launcher's executable, which is a part of this library.
[[nodiscard]] std::span<const std::byte> launcher_image() noexcept;

}  // namespace procrun::detail
