#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tests {

/// What this process holds of the kernel at one moment, as far as a test may leave some of it behind.
struct ProcessState {
    /// Identity is the device and the inode: the name of an open file may change while it stays the same file.
    struct Descriptor {
        std::pair<dev_t, ino_t> identity;
        std::string name;
    };

    std::map<int, Descriptor> descriptors;
    std::map<pid_t, std::string> children;        ///< not yet reaped, by name
    std::map<pid_t, std::string> threads;         ///< by name
    std::map<std::string, std::size_t> mappings;  ///< of images, as in /proc/self/maps, with how often each is there

    [[nodiscard]] static ProcessState now();
};

/// Closes every test: what it has left open, running or mapped, or has closed although it was not its own, is a failure
/// of that test which names the thing.
class LeakGuard : public testing::EmptyTestEventListener {
public:
    void OnTestStart(const testing::TestInfo& info) override;
    void OnTestEnd(const testing::TestInfo& info) override;

    /// One line for each thing that is in one of the two and not in the other.
    [[nodiscard]] static std::vector<std::string> differences(const ProcessState& before, const ProcessState& after);

private:
    ProcessState before_;
};

}  // namespace tests
