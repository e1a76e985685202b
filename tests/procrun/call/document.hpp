#pragma once

#include "vmcow/containers.hpp"

namespace tests {

/// The type of a value that separately built programs share.
struct Document {
    vmcow::string title;
    vmcow::vector<int> words;
};

}  // namespace tests
