#pragma once

#include "vmcow/page_store.hpp"

namespace tests {

/// The store keeps a chunk that is free for what comes next. It is made before the first test begins, so that no test
/// seems to have left it behind.
inline const bool kStoreIsWarm = (static_cast<void>(vmcow::PageStore::allocate({1})), true);

}  // namespace tests
