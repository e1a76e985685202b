#pragma once

#include <mutex>

namespace procrun::detail {

/// A pool's one mutex, held. The parts of a pool that have no lock of their own take it as a witness: `const` where it
/// stays held, non-const where it is given up for a while.
using PoolLock = std::unique_lock<std::mutex>;

}  // namespace procrun::detail
