#pragma once

#include "vmcow/image/page_store.hpp"

namespace tests {

/// Makes the page store's first chunk before the first test begins. The store keeps a free chunk for reuse, and a test
/// that made it would seem to leave it behind.
inline const bool kStoreIsWarm = (static_cast<void>(vmcow::PageStore::allocate({1})), true);

}  // namespace tests
