#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace tests {

/// Runs tests/vmcow/meter/stacks/copying_functions.cpp as a child, step by step.
class CopyingProgram {
public:
    CopyingProgram(const std::string& path, const std::string& what, std::size_t pages);
    ~CopyingProgram();
    CopyingProgram(const CopyingProgram&) = delete;
    CopyingProgram& operator=(const CopyingProgram&) = delete;

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] pid_t child() const noexcept { return child_; }
    [[nodiscard]] std::uint64_t first_page() const noexcept { return first_page_; }
    [[nodiscard]] std::uint64_t pages() const noexcept { return pages_; }

    void fork();
    void write();
    /// Lets the program end; its child ends first.
    void leave();

private:
    void go_on() const;
    [[nodiscard]] std::string line();

    pid_t pid_ = -1;
    pid_t child_ = -1;
    std::uint64_t first_page_ = 0;
    std::uint64_t pages_;
    vmcow::sys::UniqueFd in_;
    vmcow::sys::UniqueFd out_;
};

}  // namespace tests
