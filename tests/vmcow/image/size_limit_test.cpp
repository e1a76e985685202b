// Tests that RLIMIT_FSIZE is an error (EFBIG) of the call that meets it and never ends the caller's process: SIGXFSZ
// keeps its default action in all of these tests.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "pipes/pump.hpp"
#include "pipes/pump/spill_file.hpp"
#include "procrun/call/payload.hpp"
#include "procrun/launcher.hpp"
#include "procrun/pool.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/facilities.hpp"
#include "vmcow/image/copy_costs.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/meter/compare/peer_workload.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/io_ring.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/sys/process/size_signal.hpp"
#include "vmcow/value.hpp"

namespace {

using tests::ChildEnd;
using tests::error_of;
using tests::noise;
using tests::TemporaryDirectory;
using vmcow::kPageBytes;
using vmcow::sys::UniqueFd;

constexpr ChildEnd kTooLarge{EFBIG, 0};

/// The end of a child in which no file can become longer than a page: its exit status is the errno that `action`
/// throws. `prepare` runs before the limit is set and makes larger images, because a child has none of its parent's.
ChildEnd with_small_files(
    const std::function<void()>& action, const std::function<void()>& prepare = [] {}) {
    return tests::in_child([&] {
        prepare();
        tests::set_action(SIGXFSZ, SIG_DFL);
        const tests::ScopedLimit limit(RLIMIT_FSIZE, kPageBytes);
        return error_of(action);
    });
}

UniqueFd file_in(const TemporaryDirectory& folder) { return vmcow::sys::open_file(folder / "file", O_RDWR | O_CREAT); }

bool is_pending() {
    sigset_t pending;
    ::sigpending(&pending);
    return ::sigismember(&pending, SIGXFSZ) == 1;
}

void block_size_signal() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGXFSZ);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

/// Makes a call that the limit refuses, and returns its errno.
int write_too_much(int fd) {
    return vmcow::sys::without_size_signal([&] { return ::ftruncate(fd, 2 * kPageBytes); }) == -1 ? errno : 0;
}

TEST(SizeSignalTest, SignalIsTakenAndTheMaskIsAsBefore) {
    EXPECT_EQ(with_small_files([] {
                  const UniqueFd file = vmcow::sys::create_memfd("file");
                  sigset_t before;
                  sigset_t after;
                  ::pthread_sigmask(SIG_BLOCK, nullptr, &before);
                  const int error = write_too_much(file.get());
                  ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
                  if (is_pending() || ::sigismember(&after, SIGXFSZ) != ::sigismember(&before, SIGXFSZ)) ::_exit(200);
                  vmcow::sys::throw_error(error, "resize");
              }),
              kTooLarge);
}

// A caller that blocks SIGXFSZ must find no signal from our calls pending, but still its own.
TEST(SizeSignalTest, SignalOfTheCallersOwnStaysPending) {
    EXPECT_EQ(with_small_files([] {
                  block_size_signal();
                  const UniqueFd file = vmcow::sys::create_memfd("file");
                  if (write_too_much(file.get()) != EFBIG || is_pending()) ::_exit(200);
                  if (::ftruncate(file.get(), 2 * kPageBytes) != -1 || !is_pending()) ::_exit(201);
                  if (write_too_much(file.get()) != EFBIG || !is_pending()) ::_exit(202);
                  vmcow::sys::throw_error(EFBIG, "as it should be");
              }),
              kTooLarge);
}

TEST(SizeSignalTest, SignalForTheProcessIsNotKept) {
    int caught = tests::in_child([] {
                     tests::set_action(SIGXFSZ, SIG_DFL);
                     const tests::ScopedLimit no_core(RLIMIT_CORE, 0);
                     const UniqueFd file = vmcow::sys::create_memfd("file");
                     (void)vmcow::sys::without_size_signal([&] {
                         vmcow::sys::signal_process(::getpid(), SIGXFSZ);
                         return ::ftruncate(file.get(), 10);
                     });
                     return 0;
                 }).signal;
    EXPECT_EQ(caught, SIGXFSZ) << "what somebody sent is delivered when the call is over";
}

TEST(SizeSignalTest, ThreadsDoNotTakeEachOthersSignals) {
    EXPECT_EQ(with_small_files([] {
                  std::vector<std::thread> threads;
                  for (int i = 0; i < 4; ++i) {
                      threads.emplace_back([] {
                          const UniqueFd file = vmcow::sys::create_memfd("file");
                          for (int k = 0; k < 500; ++k) {
                              if (write_too_much(file.get()) != EFBIG) ::_exit(200);
                          }
                      });
                  }
                  for (std::thread& thread : threads) thread.join();
                  vmcow::sys::throw_error(EFBIG, "as it should be");
              }),
              kTooLarge);
}

TEST(SizeLimitTest, FilesAndImagesInMemory) {
    const TemporaryDirectory folder;
    EXPECT_EQ(with_small_files([] {
                  const UniqueFd image = vmcow::sys::create_memfd("image");
                  vmcow::sys::resize_memfd(image.get(), 2 * kPageBytes, "image");
              }),
              kTooLarge);
    EXPECT_EQ(with_small_files([&] {
                  const UniqueFd file = file_in(folder);
                  vmcow::sys::write_all(file.get(), noise(2 * kPageBytes), "file");
              }),
              kTooLarge);
    EXPECT_EQ(with_small_files([&] {
                  const UniqueFd file = file_in(folder);
                  std::vector<std::byte> bytes = noise(2 * kPageBytes);
                  vmcow::sys::write_pieces(file.get(), {{bytes.data(), bytes.size()}}, 0);
              }),
              kTooLarge);
}

TEST(SizeLimitTest, ValuesArenasAndDeltas) {
    EXPECT_EQ(with_small_files([] {
                  vmcow::Arena arena;
                  (void)arena.allocate(100);
              }),
              kTooLarge);
    EXPECT_EQ(with_small_files([] { const vmcow::Value<std::array<int, 1000>> value{}; }), kTooLarge);
    EXPECT_EQ(with_small_files([] { (void)vmcow::PageStore::allocate(vmcow::PageCount{1}); }), kTooLarge);
    std::optional<vmcow::View> view;
    EXPECT_EQ(with_small_files(
                  [&] {
                      tests::write_pages(*view, {0, 1});
                      (void)view->capture();
                  },
                  [&] { view.emplace(tests::snapshot_of(noise(10000))); }),
              kTooLarge);
}

TEST(SizeLimitTest, SavedImages) {
    const TemporaryDirectory folder;
    std::optional<vmcow::Snapshot> snapshot;
    for (const auto io : {vmcow::ImageIo::best, vmcow::ImageIo::write_calls}) {
        EXPECT_EQ(with_small_files([&] { (void)vmcow::save_image(*snapshot, folder / "image", {.io = io}); },
                                   [&] { snapshot.emplace(tests::snapshot_of(noise(10000))); }),
                  kTooLarge);
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

/// The write fails alike in a thread that does not block the signal.
TEST(SizeLimitTest, WritesThroughARing) {
    const TemporaryDirectory folder;
    int refused = 0;
    std::thread([&] { refused = error_of([] { const vmcow::sys::IoRing ring; }); }).join();
    if (refused != 0) GTEST_SKIP() << "no io_uring";
    EXPECT_EQ(with_small_files([&] {
                  const UniqueFd file = file_in(folder);
                  std::vector<std::byte> bytes = noise(2 * kPageBytes);
                  vmcow::sys::IoRing ring;
                  ring.write(file.get(), {{bytes.data(), bytes.size()}}, 0);
                  ring.drain();
              }),
              kTooLarge);
}

TEST(SizeLimitTest, SpillFilesAndWhatFlows) {
    const TemporaryDirectory folder;
    EXPECT_EQ(with_small_files([&] {
                  vmcow::sys::throw_error(pipes::SpillFile(folder.path()).push(noise(2 * kPageBytes)), "push");
              }),
              kTooLarge);
    for (const auto way : {pipes::PumpWay::automatic, pipes::PumpWay::poll}) {
        EXPECT_EQ(with_small_files([&] {
                      pipes::Pump pump({.way = way});
                      UniqueFd from = vmcow::sys::create_memfd("from");
                      for (int i = 0; i < 2; ++i) vmcow::sys::write_all(from.get(), noise(kPageBytes / 2), "from");
                      ::lseek(from.get(), 0, SEEK_SET);
                      UniqueFd to = file_in(folder);
                      ::lseek(to.get(), kPageBytes, SEEK_SET);
                      std::vector<UniqueFd> outs;
                      outs.push_back(std::move(to));
                      pump.tee(std::move(from), std::move(outs));
                      vmcow::sys::throw_error(pump.run().flows.at(0).outs.at(0).error, "pump");
                  }),
                  kTooLarge);
    }
}

TEST(SizeLimitTest, ResultsPoolsAndPeers) {
    EXPECT_EQ(with_small_files([] { (void)procrun::detail::file_of_payload(noise(2 * kPageBytes)); }), kTooLarge);
    EXPECT_EQ(with_small_files([] {
                  vmcow::meter::Workload workload;
                  workload.size_bytes = 1 << 20;
                  workload.writes = 1000;
                  (void)vmcow::meter::peer_workload(workload, 1, 1 << 20);
              }),
              kTooLarge);
    EXPECT_EQ(with_small_files([] {
                  procrun::Pool pool;  // a pool needs no file until it has a worker
                  vmcow::sys::throw_error(pool.call([] { return 1; }).outcome().code, "call");
              }),
              kTooLarge);
}

// Probes and launchers go on without a file, and report no error.
TEST(SizeLimitTest, ProbesAndLaunchersGoOn) {
    EXPECT_EQ(tests::in_child([] {
                  tests::set_action(SIGXFSZ, SIG_DFL);
                  const tests::ScopedLimit limit(RLIMIT_FSIZE, 0);
                  (void)vmcow::probe_all();
                  (void)vmcow::CopyCosts::measure();
                  const procrun::Launcher launcher;
                  return launcher.kind() == procrun::LauncherKind::fork ? 0 : 1;
              }),
              tests::kChildExitedWell);
}

}  // namespace
