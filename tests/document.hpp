#pragma once

#include "vmcow/containers.hpp"

namespace tests {

/// What programs that were built apart have in common: the type of a value.
struct Document {
    vmcow::string title;
    vmcow::vector<int> words;
};

}  // namespace tests
