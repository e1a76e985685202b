// Tests a process that is killed while it saves an image: at each of its system calls, before and after the kernel has
// made it.
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/names_in.hpp"
#include "tests/support/support.hpp"
#include "vmcow/file/save_image.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/sys/unfinished_file.hpp"

namespace vmcow {
namespace {

namespace fs = std::filesystem;

using sys::UnfinishedFile;
using tests::names_in;
using tests::noise;
using tests::same_bytes;
using tests::snapshot_of;
using tests::TemporaryDirectory;
using Way = UnfinishedFile::Way;

/// Runs `body` in a child and kills it at its `stop`-th stop; each system call has one stop before it and one after it.
/// False when the child ended before that stop. `refused` tells whether it ended because ptrace(2) is not allowed.
bool kill_at_stop(unsigned stop, const std::function<void()>& body, bool& refused) {
    std::optional<ImagesInFork> images(std::in_place);  // maps the image to be saved in the child, too
    const pid_t pid = ::fork();
    if (pid < 0) sys::throw_errno("fork");
    if (pid == 0) {
        if (images->map_again() != 0) ::_exit(2);
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
        (void)::raise(SIGSTOP);
        try {
            body();
        } catch (const std::exception&) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    images.reset();
    int status = 0;
    for (unsigned stops = 0; ::waitpid(pid, &status, 0) == pid && WIFSTOPPED(status); ++stops) {
        if (stops == stop) {
            vmcow::sys::signal_process(pid, SIGKILL);
            (void)::waitpid(pid, &status, 0);
            return true;
        }
        // Pass on any other signal, such as that of a mistake in the test: held back, it would stop the child for ever.
        const int signal = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        (void)::ptrace(PTRACE_SYSCALL, pid, nullptr, static_cast<std::uintptr_t>(signal));
    }
    EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77)) << status;
    refused = WIFEXITED(status) && WEXITSTATUS(status) == 77;
    return false;
}

/// Runs each test with both ways to keep a file until it is complete.
class SaverKillTest : public testing::TestWithParam<Way> {
protected:
    void save(const Snapshot& snapshot, bool sync = true) const {
        (void)save_image(snapshot, path_, {.sync = sync, .io = ImageIo::write_calls}, sys::clone_range, GetParam());
    }

    TemporaryDirectory directory_;
    std::string path_ = directory_ / "image";
    Snapshot old_ = snapshot_of(noise(20000, 1));
    Snapshot new_ = snapshot_of(noise(30000, 2));
};

INSTANTIATE_TEST_SUITE_P(Ways, SaverKillTest, testing::Values(Way::best, Way::named),
                         [](const auto& way) { return way.param == Way::best ? "Best" : "Named"; });

TEST_P(SaverKillTest, FileIsOldOrNewAndTheNextSaveLeavesNothingBeside) {
    unsigned stop = 0;
    unsigned seen_old = 0;
    unsigned left_behind = 0;
    for (bool refused = false;; ++stop) {
        save(old_, false);
        if (!kill_at_stop(
                stop, [&] { save(new_); }, refused)) {
            if (refused) GTEST_SKIP() << "ptrace is missing";
            break;
        }
        const Snapshot found = load_image(path_, {.verify = Verify::content}).snapshot;
        const bool is_old = same_bytes(old_.bytes(), found.bytes());
        ASSERT_TRUE(is_old || same_bytes(new_.bytes(), found.bytes())) << stop;
        seen_old += is_old ? 1U : 0U;
        left_behind += names_in(directory_.path()).size() > 1 ? 1U : 0U;
        save_image(old_, directory_ / "another", {.sync = false, .io = ImageIo::write_calls});
        ASSERT_EQ(names_in(directory_.path()), (std::set<std::string>{"image", "another"})) << stop;
        fs::remove(directory_ / "another");
    }
    EXPECT_GT(stop, 20U);
    EXPECT_GT(seen_old, 0U);
    EXPECT_LT(seen_old, stop) << "it was killed after the file was in place, too";
    EXPECT_GT(left_behind, 0U) << "else nothing was shown of what is left behind";
}

TEST_P(SaverKillTest, NewFileIsThereWholeOrNotAtAll) {
    bool refused = false;
    for (unsigned stop = 0; kill_at_stop(
             stop, [&] { save(new_); }, refused);
         ++stop) {
        if (fs::exists(path_)) {
            ASSERT_TRUE(same_bytes(new_.bytes(), load_image(path_, {.verify = Verify::content}).snapshot.bytes()));
            fs::remove(path_);
        }
        // With no file to replace, the best way needs no temporary name where the file system supports O_TMPFILE.
        if (GetParam() == Way::best) {
            ASSERT_EQ(names_in(directory_.path()), std::set<std::string>{}) << stop;
        }
    }
    if (refused) GTEST_SKIP() << "ptrace is missing";
    EXPECT_EQ(names_in(directory_.path()), std::set<std::string>{"image"});
}

}  // namespace
}  // namespace vmcow
