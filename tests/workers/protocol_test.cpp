#include "workers/protocol.h"

#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::workers {
namespace {

TEST(Protocol, plan_survives) {
  const FeedPlan plan{.seed = 0xfedcba9876543210,
                      .first_iteration = 2,
                      .last_iteration = 3,
                      .global_batch = 4,
                      .first_slot = 5,
                      .slots = 6,
                      .micro_batch = 7};

  const PlanMessage decoded = decode_plan(encode_plan({plan, 8}));

  EXPECT_EQ(decoded.plan.seed, plan.seed);
  EXPECT_EQ(decoded.plan.first_iteration, 2);
  EXPECT_EQ(decoded.plan.last_iteration, 3);
  EXPECT_EQ(decoded.plan.global_batch, 4);
  EXPECT_EQ(decoded.plan.first_slot, 5);
  EXPECT_EQ(decoded.plan.slots, 6);
  EXPECT_EQ(decoded.plan.micro_batch, 7);
  EXPECT_EQ(decoded.prefetch, 8);
}

TEST(Protocol, greeting_survives) {
  const Greeting decoded = decode_greeting(encode_greeting({{{1, 2, 3, 4}, {5, 6}}, 7}));

  EXPECT_EQ(decoded.shape, (SampleShape{{1, 2, 3, 4}, {5, 6}}));
  EXPECT_EQ(decoded.detail_bytes, 7);
}

TEST(Protocol, header_survivesWithAndWithoutSamples) {
  for (const std::vector<int64_t>& samples : {std::vector<int64_t>{7, 8, 9}, {}}) {
    const BatchHeader header{
        .place = {3, 4, 3}, .samples = samples, .stop_requested = true, .detail_bytes = 11};
    const at::Tensor words = encode_header(header);
    EXPECT_EQ(words.numel(), header_words(3));

    const BatchHeader decoded = decode_header(words);

    EXPECT_EQ(decoded.place, header.place);
    EXPECT_EQ(decoded.samples, samples);
    EXPECT_TRUE(decoded.stop_requested);
    EXPECT_EQ(decoded.detail_bytes, 11);
  }
}

TEST(Protocol, details_surviveWithAnyBytesInNames) {
  const std::vector<BadSample> bad = {{1, "a\xff.h5 sample 1", "NaN"}, {2, "b", ""}};

  const Details decoded = decode_details(encode_details({bad, Error(ErrorKind::kIo, "what", "hint \xfe")}));

  EXPECT_EQ(decoded.bad, bad);
  ASSERT_TRUE(decoded.error.has_value());
  EXPECT_EQ(decoded.error->kind(), ErrorKind::kIo);
  EXPECT_STREQ(decoded.error->what(), "what");
  EXPECT_EQ(decoded.error->hint(), "hint \xfe");
  EXPECT_FALSE(decode_details(encode_details({bad, std::nullopt})).error.has_value());
}

TEST(Protocol, control_refusesUnknown) {
  EXPECT_EQ(decode_control(encode_control(Control::kCredit)), Control::kCredit);
  EXPECT_EQ(decode_control(encode_control(Control::kClose)), Control::kClose);
  data::expect_error(ErrorKind::kInternal, "control message",
                     [] { decode_control(encode_control(static_cast<Control>(9))); });
}

}  // namespace
}  // namespace tmd::workers
