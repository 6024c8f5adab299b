#include "workers/batch_buffers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::workers {
namespace {

constexpr SampleShape kShape{.latent = {2, 1, 3, 2}, .text = {4, 5}};

TEST(BatchBuffers, take_hasShapeOfRows) {
  BatchBuffers buffers(3, kShape);

  const BatchTensors tensors = buffers.take(2);

  EXPECT_EQ(tensors.latents.sizes(), at::IntArrayRef({2, 2, 1, 3, 2}));
  EXPECT_EQ(tensors.text.sizes(), at::IntArrayRef({2, 4, 5}));
  EXPECT_TRUE(tensors.latents.is_contiguous() && tensors.text.is_contiguous());
  EXPECT_EQ(tensors.latents.scalar_type(), at::kFloat);
}

TEST(BatchBuffers, take_usesDroppedMemoryAgain) {
  BatchBuffers buffers(3, kShape);
  for (int64_t i = 0; i < 10; ++i) buffers.take(1 + i % 3);
  EXPECT_EQ(buffers.allocated(), 1);
}

TEST(BatchBuffers, take_leavesHeldMemoryAlone) {
  BatchBuffers buffers(2, kShape);
  const BatchTensors first = buffers.take(2);
  first.latents.fill_(1);
  const at::Tensor view = buffers.take(2).text.flatten().slice(0, 1, 3);  // a view is enough to hold it
  view.fill_(2);

  const BatchTensors third = buffers.take(2);
  third.latents.fill_(3);
  third.text.fill_(3);

  EXPECT_EQ(buffers.allocated(), 3);
  EXPECT_TRUE(first.latents.eq(1).all().item<bool>());
  EXPECT_TRUE(view.eq(2).all().item<bool>());
}

}  // namespace
}  // namespace tmd::workers
