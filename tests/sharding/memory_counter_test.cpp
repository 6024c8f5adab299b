#include "sharding/memory_counter.h"

#include <cstdint>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::sharding {
namespace {

at::Tensor meta(int64_t bytes) { return at::empty({bytes}, at::TensorOptions(at::kByte).device(at::kMeta)); }

int64_t item(const MemoryByItem& bytes, MemoryItem of) { return bytes[static_cast<int>(of)]; }

class Memory : public testing::Test {
 protected:
  static void SetUpTestSuite() { install_memory_counter(); }
};

TEST_F(Memory, host_and_meta_tensors_count_until_their_last_owner_is_gone) {
  MemoryCounter counter;
  {
    const CountInto count(counter);
    at::Tensor host = at::empty({1000}, at::kFloat);
    const at::Tensor view = host.narrow(0, 0, 10), other = meta(500);
    EXPECT_EQ(counter.live(), 4500);
    host.reset();
    EXPECT_EQ(counter.live(), 4500) << "the view keeps the memory";
  }
  EXPECT_EQ(counter.live(), 0);
  EXPECT_EQ(counter.peak().total, 4500);
}

TEST_F(Memory, host_memory_is_aligned_and_can_be_written) {
  for (int64_t bytes : {1, 63, 64, 4097, 1 << 20}) {
    const at::Tensor x = at::ones({bytes}, at::kByte);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.data_ptr()) % 64, 0);
    EXPECT_EQ(x.to(at::kLong).sum().item<int64_t>(), bytes);
  }
  EXPECT_EQ(at::empty({0}, at::kFloat).numel(), 0);
}

TEST_F(Memory, the_peak_says_what_was_live_then) {
  MemoryCounter counter;
  const CountInto count(counter);
  const MemoryTag weights(MemoryItem::kWeights);
  const at::Tensor kept = meta(100);
  const std::string network = "student", unit = "blocks.3";
  {
    const MemoryPlace place(network, unit, /*backward=*/true);
    meta(50);
  }
  meta(20);
  EXPECT_EQ(counter.live(), 100);
  EXPECT_EQ(counter.peak().total, 150);
  EXPECT_EQ(counter.peak().place, "student blocks.3 backward");
  counter.reset_peak();
  EXPECT_EQ(counter.peak().total, 100);
}

TEST_F(Memory, the_outermost_tag_counts_but_for_shared_buffers) {
  MemoryCounter counter;
  const CountInto count(counter);
  const at::Tensor plain = meta(1);
  const MemoryTag outer(MemoryItem::kDiscriminator);
  at::Tensor inner, shared;
  {
    const MemoryTag tag(MemoryItem::kMoments);
    inner = meta(10);
    const MemoryTag buffer(MemoryItem::kGathered);
    shared = meta(100);
  }
  const MemoryByItem live = counter.live_by_item();
  EXPECT_EQ(item(live, MemoryItem::kActivations), 1);
  EXPECT_EQ(item(live, MemoryItem::kDiscriminator), 10);
  EXPECT_EQ(item(live, MemoryItem::kGathered), 100);
  count_as(inner, MemoryItem::kBatch);
  EXPECT_EQ(item(counter.live_by_item(), MemoryItem::kBatch), 10);
  EXPECT_EQ(item(counter.live_by_item(), MemoryItem::kDiscriminator), 0);
}

TEST_F(Memory, a_counter_may_leave_the_host_out) {
  MemoryCounter counter(MemoryCounter::Counts::kMetaOnly);
  const CountInto count(counter);
  const at::Tensor host = at::empty({10}), other = meta(7);
  EXPECT_EQ(counter.live(), 7);
}

TEST_F(Memory, tensors_may_die_on_another_thread_than_they_were_made_on) {
  MemoryCounter counter;
  at::Tensor made;
  {
    const CountInto count(counter);
    made = at::empty({64}, at::kFloat);
  }
  std::thread([moved = std::move(made)]() mutable { moved.reset(); }).join();
  EXPECT_EQ(counter.live(), 0);
}

TEST_F(Memory, a_refused_allocation_says_how_much_and_what_for) {
  const std::string network = "teacher", unit = "head";
  const MemoryPlace place(network, unit, /*backward=*/false);
  const MemoryTag tag(MemoryItem::kTemporaries);
  try {
    at::empty({int64_t{1} << 55}, at::kByte);
    ADD_FAILURE() << "36 petabytes were given";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDoesNotFit);
    EXPECT_NE(std::string(error.what()).find("temporaries (teacher head forward)"), std::string::npos)
        << error.what();
  }
}

TEST(MemoryText, bytes_and_items_are_readable) {
  EXPECT_EQ(bytes_text(1230000000), "1.23 GB");
  EXPECT_EQ(bytes_text(45600000), "45.6 MB");
  EXPECT_EQ(bytes_text(789), "0.8 kB");
  MemoryByItem items{};
  items[static_cast<int>(MemoryItem::kBatch)] = 2000;
  items[static_cast<int>(MemoryItem::kMoments)] = 5000000;
  EXPECT_EQ(items_text(items), "optimizer moments 5.0 MB, batch 2.0 kB");
}

}  // namespace
}  // namespace tmd::sharding
