// Tests saves that go on in a thread of their own: what the file holds, and how they end.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/file/saved_images.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/file/save_control.hpp"
#include "vmcow/file/save_image.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/value.hpp"

namespace vmcow {
namespace {

using namespace std::chrono_literals;
using tests::error_of;
using tests::kFast;
using tests::noise;
using tests::same_bytes;
using tests::snapshot_of;
using tests::TemporaryDirectory;

std::size_t entries_in(const std::filesystem::path& folder) {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

class SaveAsyncTest : public testing::Test {
protected:
    TemporaryDirectory directory_;
    std::string path_ = directory_ / "image";
};

TEST_F(SaveAsyncTest, FileHoldsTheValueAsItWasWhenTheSaveBegan) {
    Value<long[]> numbers(std::size_t{1} << 20);
    numbers.edit([](std::span<long> all) { all[7] = 1; });
    PendingSave save = numbers.save_async(path_, kFast);
    numbers.edit([](std::span<long> all) {
        for (long& each : all) each = 2;
    });
    while (!save.wait_for(1ms)) EXPECT_LE(save.progress().done_bytes, save.progress().total_bytes);
    EXPECT_TRUE(save.is_done());
    EXPECT_EQ(numbers.extent_bytes(), save.progress().done_bytes);
    EXPECT_EQ(numbers.extent_bytes(), save.progress().total_bytes);
    EXPECT_EQ(pages_of(numbers.extent_bytes()), save.get().stored);

    const auto loaded = Value<long[]>::load(path_);
    EXPECT_EQ(0, loaded[6]);
    EXPECT_EQ(1, loaded[7]);
    EXPECT_EQ(2, numbers[7]);
    EXPECT_EQ(EBADMSG, error_of([&] { (void)Value<int>::load(path_); }));
}

TEST_F(SaveAsyncTest, EveryKindOfValueIsSaved) {
    const Value<double> plain(2.5);
    Value<vmcow::vector<vmcow::string>> texts;
    texts.edit([](auto& all) { all.push_back("first"); });
    const Value<char[]> empty;
    PendingSave of_plain = plain.save_async(directory_ / "plain", kFast);
    PendingSave of_texts = texts.save_async(directory_ / "texts", kFast);
    PendingSave of_empty = empty.save_async(directory_ / "empty", kFast);
    of_plain.get();
    of_texts.get();
    of_empty.get();
    const auto loaded_plain = Value<double>::load(directory_ / "plain");
    const auto loaded_texts = Value<vmcow::vector<vmcow::string>>::load(directory_ / "texts");
    EXPECT_EQ(2.5, *loaded_plain);
    EXPECT_EQ("first", (*loaded_texts)[0]);
    EXPECT_EQ(0U, Value<char[]>::load(directory_ / "empty").size());
}

TEST_F(SaveAsyncTest, ChangesAreSavedRelativeToAFile) {
    const Snapshot base = snapshot_of(noise(1 << 20));
    save_image_async(base, path_, kFast).get();
    const Snapshot changed = tests::with_pages_changed(base, {3, 90}, std::byte{1});
    PendingSave save = save_image_async(changed, directory_ / "changes", tests::relative_to(path_));
    EXPECT_EQ(PageCount{2}, save.get().stored);
    EXPECT_TRUE(same_bytes(changed.bytes(), load_image(directory_ / "changes").snapshot.bytes()));
}

TEST_F(SaveAsyncTest, DestructorWaitsForTheFile) {
    const Snapshot image = snapshot_of(noise(1 << 20));
    { const PendingSave save = save_image_async(image, path_, kFast); }
    EXPECT_TRUE(same_bytes(image.bytes(), load_image(path_).snapshot.bytes()));
}

TEST_F(SaveAsyncTest, AssignmentWaitsForTheFileOfTheOldSave) {
    const Snapshot image = snapshot_of(noise(1 << 20));
    PendingSave save = save_image_async(image, path_, kFast);
    save = save_image_async(image, directory_ / "other", kFast);
    EXPECT_TRUE(same_bytes(image.bytes(), load_image(path_).snapshot.bytes()));
    save.get();
    EXPECT_TRUE(same_bytes(image.bytes(), load_image(directory_ / "other").snapshot.bytes()));
}

TEST_F(SaveAsyncTest, ErrorOfTheFileIsAnErrorOfGet) {
    const Snapshot image = snapshot_of(noise(4096));
    const std::string path = directory_ / "missing/image";
    PendingSave save = save_image_async(image, path, kFast);
    while (!save.wait_for(std::chrono::nanoseconds::max())) continue;
    std::optional<std::system_error> error;
    try {
        save.get();
    } catch (const std::system_error& thrown) {
        error = thrown;
    }
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(ENOENT, error->code().value());
    EXPECT_NE(std::string::npos, std::string(error->what()).find(path)) << error->what();
}

TEST_F(SaveAsyncTest, CancelledSaveLeavesTheOldFile) {
    const Snapshot old = snapshot_of(noise(1 << 20, 1));
    const Snapshot image = snapshot_of(noise(1 << 20, 2));
    (void)save_image(old, path_, kFast);
    SaveControl control;
    control.cancel();
    EXPECT_EQ(ECANCELED, error_of([&] { (void)save_image(image, path_, kFast, control); }));
    EXPECT_TRUE(same_bytes(old.bytes(), load_image(path_).snapshot.bytes()));
    EXPECT_EQ(1U, entries_in(directory_.path()));
}

TEST_F(SaveAsyncTest, SaveThatIsCancelledAtAnyTimeLeavesAWholeFile) {
    const Snapshot old = snapshot_of(noise(4096));
    const Snapshot image = snapshot_of(noise(32 << 20));
    int cancelled = 0;
    for (int i = 0; i < 10; ++i) {
        (void)save_image(old, path_, kFast);
        PendingSave save = save_image_async(image, path_, kFast);
        (void)save.wait_for(std::chrono::milliseconds(i / 2));
        save.cancel();
        save.cancel();
        const int error = error_of([&] { save.get(); });
        EXPECT_TRUE(error == 0 || error == ECANCELED) << error;
        cancelled += error == ECANCELED ? 1 : 0;
        const Snapshot& expected = error == 0 ? image : old;
        EXPECT_TRUE(same_bytes(expected.bytes(), load_image(path_).snapshot.bytes()));
        EXPECT_EQ(1U, entries_in(directory_.path()));
    }
    EXPECT_GT(cancelled, 0) << "no save was stopped";
}

TEST_F(SaveAsyncTest, SavesToOnePathEachPutAWholeFileInPlace) {
    std::vector<Snapshot> images;
    std::vector<PendingSave> saves;
    for (unsigned i = 0; i < 8; ++i) {
        images.push_back(snapshot_of(noise(1 << 20, i)));
        saves.push_back(save_image_async(images.back(), path_, kFast));
    }
    for (PendingSave& save : saves) save.get();
    const LoadedImage loaded = load_image(path_, {.verify = Verify::content});
    int equal = 0;
    for (const Snapshot& image : images) equal += same_bytes(image.bytes(), loaded.snapshot.bytes()) ? 1 : 0;
    EXPECT_EQ(1, equal);
    EXPECT_EQ(1U, entries_in(directory_.path()));
}

TEST_F(SaveAsyncTest, SaveBelongsToTheProcessThatBeganIt) {
    const Snapshot image = snapshot_of(noise(8 << 20));
    PendingSave save = save_image_async(image, path_, kFast);
    const pid_t child = ::fork();
    if (child == 0) {
        const bool refused = error_of([&] { save.get(); }) == ECHILD;
        const bool waits = save.wait_for(1s) || save.is_done();
        { const PendingSave ended = std::move(save); }
        ::_exit(refused && !waits ? 0 : 1);
    }
    ASSERT_GT(child, 0);
    int status = 0;
    ASSERT_EQ(child, ::waitpid(child, &status, 0));
    EXPECT_EQ(0, status);
    save.get();
    EXPECT_TRUE(same_bytes(image.bytes(), load_image(path_).snapshot.bytes()));
}

TEST_F(SaveAsyncTest, ObjectHoldsNothingAfterGet) {
    PendingSave save = save_image_async(snapshot_of(noise(4096)), path_, kFast);
    save.get();
    EXPECT_DEATH((void)save.is_done(), "vmcow::PendingSave");
}

}  // namespace
}  // namespace vmcow
