// The images that a worker knows, where what it was told is not what it is asked for.
#include "procrun/worker/worker_images.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "procrun/worker/call_protocol.hpp"
#include "tests/support/support.hpp"

namespace {

using procrun::detail::ImageMode;
using procrun::detail::ImageReply;
using procrun::detail::ImageRequest;
using procrun::detail::Request;
using procrun::detail::WorkerImages;

// The message about an image may be lost, as when there is no memory to receive it. The request still names the image.
TEST(WorkerImagesTest, RequestForAnImageThatWasNeverLearntIsAnError) {
    WorkerImages images({}, {1024});
    Request request{};
    request.image_count = 1;
    request.images[0].entry = 7;
    for (const ImageMode mode : {ImageMode::read_only, ImageMode::by_value, ImageMode::apply, ImageMode::moved}) {
        request.images[0].mode = mode;
        ImageReply reply;
        EXPECT_EQ(tests::error_of([&] { static_cast<void>(images.prepare(request.images[0], reply)); }), EBADMSG);
        EXPECT_EQ(images.view_of(request.images[0]), nullptr);
        EXPECT_TRUE(images.are_mapped(request));
        EXPECT_TRUE(images.are_mapped());
        EXPECT_EQ(images.resident(request).value, 0U);
        images.keep_to_budget(request);
        images.unmap_moved();
    }
}

TEST(WorkerImagesTest, UpdateThatIsNoneIsAnError) {
    WorkerImages images({}, {1024});
    EXPECT_EQ(tests::error_of([&] { images.apply_update({}); }), EBADMSG);
}

}  // namespace
