#include "workers/batch_reader.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "data/order.h"
#include "tests/data/expect_error.h"
#include "tests/data/temporary_folder.h"
#include "tests/workers/feed_data.h"

namespace tmd::workers {
namespace {

std::vector<Batch> read_all(data::DataSet& data_set, const FeedPlan& plan) {
  BatchReader reader(data_set, plan);
  std::vector<Batch> batches;
  for (int64_t i = 0; i < reader.micro_batches(); ++i) batches.push_back(reader.read(i));
  return batches;
}

TEST(BatchReader, read_followsOrderAcrossEpochs) {
  const data::TemporaryFolder folder;
  data::DataSet data_set = small_data_set(folder / "a.h5", 7);
  const FeedPlan plan{.seed = 5, .last_iteration = 7, .global_batch = 3, .slots = 3, .micro_batch = 2};

  const std::vector<Batch> batches = read_all(data_set, plan);

  ASSERT_EQ(batches.size(), 14u);
  int64_t position = 0;
  for (const Batch& batch : batches) {
    EXPECT_EQ((batch.iteration - 1) * 3 + batch.first_slot, position);
    expect_content(batch, data_set.header());
    for (const int64_t sample : batch.samples) EXPECT_EQ(sample, data::sample_at(5, 7, position++));
    EXPECT_TRUE(batch.bad.empty());
  }
  const std::vector<int64_t> samples = samples_of(batches);
  for (int epoch = 0; epoch < 3; ++epoch) {
    EXPECT_EQ(std::set(samples.begin() + 7 * epoch, samples.begin() + 7 * (epoch + 1)).size(), 7u);
  }
}

TEST(BatchReader, read_isTheTailAfterEveryResume) {
  const data::TemporaryFolder folder;
  data::DataSet data_set = small_data_set(folder / "a.h5", 5);
  FeedPlan plan{
      .seed = 1, .last_iteration = 9, .global_batch = 4, .first_slot = 1, .slots = 3, .micro_batch = 2};
  const std::vector<Batch> whole = read_all(data_set, plan);

  for (const int64_t resumed_at : {3, 6, 9}) {  // in epochs 2, 5 and 7
    plan.first_iteration = resumed_at;
    const std::vector<Batch> tail = read_all(data_set, plan);
    ASSERT_EQ(tail.size(), whole.size() - 2 * static_cast<size_t>(resumed_at - 1));
    for (size_t i = 0; i < tail.size(); ++i) expect_same(tail[i], whole[whole.size() - tail.size() + i]);
  }
}

TEST(BatchReader, ranks_readTheGlobalBatchTogether) {
  const data::TemporaryFolder folder;
  data::DataSet data_set = small_data_set(folder / "a.h5", 11);
  const FeedPlan one{.seed = 3, .last_iteration = 2, .global_batch = 5, .slots = 5, .micro_batch = 5};
  FeedPlan left = one, right = one;
  left.slots = 2;
  right.first_slot = 2;
  right.slots = 3;

  const std::vector<Batch> whole = read_all(data_set, one), first = read_all(data_set, left),
                           second = read_all(data_set, right);

  for (size_t i = 0; i < whole.size(); ++i) {
    std::vector<int64_t> joined = first[i].samples;
    joined.insert(joined.end(), second[i].samples.begin(), second[i].samples.end());
    EXPECT_EQ(joined, whole[i].samples);
  }
}

// Two files, the first with a NaN, the second with bytes that its checksum contradicts.
class BrokenSamples : public testing::Test {
 protected:
  static constexpr int64_t kNan = 2, kChanged = 5 + 3;

  BrokenSamples() {
    data::write_small_file(folder_ / "a.h5", feed_header(5, false));
    data::write_small_file(folder_ / "b.h5", feed_header(5, true));
    intact_ = read_all();
    overwrite_latent(folder_ / "a.h5", 2, kNaN);
    overwrite_latent(folder_ / "b.h5", 3, 1.0f);
    broken_ = read_all();
  }

  std::vector<Batch> read_all() {
    data::DataSet data_set({folder_ / "a.h5", folder_ / "b.h5"});
    return workers::read_all(data_set, plan_);
  }

  data::TemporaryFolder folder_;
  FeedPlan plan_{.seed = 9, .last_iteration = 8, .global_batch = 5, .slots = 5, .micro_batch = 3};
  std::vector<Batch> intact_, broken_;
};

TEST_F(BrokenSamples, read_replacesThemAndNothingElse) {
  const std::vector<int64_t> before = samples_of(intact_), after = samples_of(broken_);
  ASSERT_EQ(before.size(), after.size());
  int replaced = 0;
  for (size_t position = 0; position < before.size(); ++position) {
    if (before[position] != kNan && before[position] != kChanged) {
      EXPECT_EQ(after[position], before[position]) << "position " << position;
      continue;
    }
    ++replaced;
    int64_t expected = before[position];
    for (int64_t attempt = 1; expected == kNan || expected == kChanged; ++attempt) {
      expected = data::replacement_at(9, 10, static_cast<int64_t>(position), attempt);
    }
    EXPECT_EQ(after[position], expected) << "position " << position;
  }
  EXPECT_EQ(replaced, 8);  // 40 positions are four epochs
}

TEST_F(BrokenSamples, read_fillsRowsOfReplacements) {
  for (const Batch& batch : broken_) {
    for (size_t row = 0; row < batch.samples.size(); ++row) {
      const data::Sample sample = data::small_sample(data::small_header(5), batch.samples[row] % 5);
      EXPECT_TRUE(at::equal(batch.latents[static_cast<int64_t>(row)], sample.latent));
      EXPECT_TRUE(at::equal(batch.text[static_cast<int64_t>(row)], sample.text));
    }
  }
}

TEST_F(BrokenSamples, bad_namesEachOccurrenceOnce) {
  std::map<int64_t, int> occurrences;
  for (const Batch& batch : broken_) {
    for (const BadSample& bad : batch.bad) {
      ++occurrences[bad.sample];
      const bool is_nan = bad.sample == kNan;
      EXPECT_NE(bad.name.find(is_nan ? "a.h5 sample 2" : "b.h5 sample 3"), std::string::npos) << bad.name;
      EXPECT_NE(bad.problem.find(is_nan ? "non-finite" : "checksum"), std::string::npos) << bad.problem;
    }
  }
  int expected_nan = 0, expected_changed = 0;
  for (int64_t position = 0; position < 40; ++position) {
    std::set<int64_t> met;
    int64_t sample = data::sample_at(9, 10, position);
    for (int64_t attempt = 1; sample == kNan || sample == kChanged; ++attempt) {
      met.insert(sample);
      sample = data::replacement_at(9, 10, position, attempt);
    }
    expected_nan += met.contains(kNan);
    expected_changed += met.contains(kChanged);
  }
  EXPECT_EQ(occurrences, (std::map<int64_t, int>{{kNan, expected_nan}, {kChanged, expected_changed}}));
}

TEST_F(BrokenSamples, read_isTheSameAfterResume) {
  plan_.first_iteration = 4;
  const std::vector<Batch> tail = read_all();
  for (size_t i = 0; i < tail.size(); ++i) expect_same(tail[i], broken_[broken_.size() - tail.size() + i]);
}

TEST(BatchReader, read_throwsWhenAllSamplesAreBroken) {
  const data::TemporaryFolder folder;
  data::write_small_file(folder / "a.h5", feed_header(3, false));
  break_all_but(folder / "a.h5", 3, -1);
  data::DataSet data_set({folder / "a.h5"});
  BatchReader reader(data_set, {.last_iteration = 2, .global_batch = 2, .slots = 2});

  data::expect_error(ErrorKind::kData,
                     "iteration 2, slot 1: no intact sample in 100 attempts, which met 3 broken ones",
                     [&] { reader.read(3); });
}

TEST(BatchReader, listOfPrompts_isRefused) {
  const data::TemporaryFolder folder;
  write_prompt_list(folder / "prompts.h5");
  data::DataSet data_set({folder / "prompts.h5"});

  data::expect_error(ErrorKind::kData, "list of prompts", [&] { BatchReader(data_set, {}); });
}

TEST(BatchReader, read_allocatesNoMoreThanIsHeld) {
  const data::TemporaryFolder folder;
  data::DataSet data_set = small_data_set(folder / "a.h5", 4);
  BatchReader reader(data_set, {.last_iteration = 50});
  const Batch held = reader.read(0);
  const void* const second = reader.read(1).latents.const_data_ptr();

  for (int64_t i = 2; i < 50; ++i) EXPECT_EQ(reader.read(i).latents.const_data_ptr(), second);

  EXPECT_NE(held.latents.const_data_ptr(), second);
  expect_content(held, data_set.header());
}

}  // namespace
}  // namespace tmd::workers
