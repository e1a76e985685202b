#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tests {

/// The kernel resources that this process holds at one moment, of the kinds that a test could leave behind.
struct ProcessState {
    /// Compared by device and inode: the name of an open file may change while it stays the same file.
    struct Descriptor {
        std::pair<dev_t, ino_t> identity;
        std::string name;
    };

    std::map<int, Descriptor> descriptors;
    std::map<pid_t, std::string> children;        ///< not yet reaped, by name
    std::map<pid_t, std::string> threads;         ///< by name
    std::map<std::string, std::size_t> mappings;  ///< of images: lines of /proc/self/maps, with how often each is there

    [[nodiscard]] static ProcessState now();
};

/// Compares the process before and after every test. Each thing that the test left open, running or mapped, or closed
/// although it did not own it, is a failure of that test with the thing's name.
class LeakGuard : public testing::EmptyTestEventListener {
public:
    void OnTestProgramStart(const testing::UnitTest& unit) override;
    void OnTestStart(const testing::TestInfo& info) override;
    void OnTestEnd(const testing::TestInfo& info) override;

    /// One line for each thing that is only in `before` or only in `after`.
    [[nodiscard]] static std::vector<std::string> differences(const ProcessState& before, const ProcessState& after);

private:
    ProcessState before_;
};

}  // namespace tests
