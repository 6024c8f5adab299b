#include "workers/local_feed.h"

#include <chrono>
#include <optional>
#include <thread>

#include "base/error.h"
#include "tests/data/expect_error.h"
#include "tests/data/temporary_folder.h"
#include "tests/workers/feed_data.h"

namespace tmd::workers {
namespace {

using namespace std::chrono_literals;

constexpr FeedPlan kPlan{
    .seed = 2, .last_iteration = 9, .global_batch = 5, .first_slot = 1, .slots = 3, .micro_batch = 2};

TEST(LocalFeed, next_givesWhatTheReaderReads) {
  const data::TemporaryFolder folder;
  data::DataSet data_set = small_data_set(folder / "a.h5", 7);
  BatchReader reader(data_set, kPlan);

  for (const int64_t prefetch : {1, 2, 100}) {
    LocalFeed feed(data::DataSet({folder / "a.h5"}), kPlan, prefetch);
    const std::vector<Batch> batches = take(feed, count_micro_batches(kPlan));
    for (int64_t i = 0; i < reader.micro_batches(); ++i) expect_same(batches[i], reader.read(i));
    feed.close();
  }
}

TEST(LocalFeed, next_isTheTailAfterEveryResume) {
  const data::TemporaryFolder folder;
  small_data_set(folder / "a.h5", 7);
  LocalFeed whole(data::DataSet({folder / "a.h5"}), kPlan, 2);
  const std::vector<Batch> expected = take(whole, 18);

  for (const int64_t resumed_at : {4, 7}) {
    FeedPlan plan = kPlan;
    plan.first_iteration = resumed_at;
    LocalFeed feed(data::DataSet({folder / "a.h5"}), plan, 2);
    const std::vector<Batch> tail = take(feed, count_micro_batches(plan));
    for (size_t i = 0; i < tail.size(); ++i)
      expect_same(tail[i], expected[expected.size() - tail.size() + i]);
  }
}

TEST(LocalFeed, next_reportsBrokenSamples) {
  const data::TemporaryFolder folder;
  small_data_set(folder / "a.h5", 3);
  overwrite_latent(folder / "a.h5", 1, 0.0f);
  LocalFeed feed(data::DataSet({folder / "a.h5"}), {.last_iteration = 3}, 2);

  const std::vector<Batch> epoch = take(feed, 3);

  std::vector<BadSample> bad;
  for (const Batch& batch : epoch) bad.insert(bad.end(), batch.bad.begin(), batch.bad.end());
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].sample, 1);
}

TEST(LocalFeed, next_throwsWhatTheReaderThrowsAfterTheBatchesBefore) {
  const data::TemporaryFolder folder;
  small_data_set(folder / "a.h5", 50, false);
  break_all_but(folder / "a.h5", 50, 17);
  data::DataSet data_set({folder / "a.h5"});
  const FeedPlan plan{.seed = 1, .last_iteration = 1000};
  BatchReader reader(data_set, plan);
  int64_t good = 0;
  std::optional<Error> expected;
  while (!expected) {
    try {
      reader.read(good);
      ++good;
    } catch (const Error& error) {
      expected = error;
    }
  }
  ASSERT_GT(good, 0);

  LocalFeed feed(data::DataSet({folder / "a.h5"}), plan, 3);
  take(feed, good);

  data::expect_error(ErrorKind::kData, expected->what(), [&] { feed.next(); });
  data::expect_error(ErrorKind::kData, expected->what(), [&] { feed.next(); });
}

TEST(LocalFeed, next_isRefusedBeyondTheEndAndAfterClose) {
  const data::TemporaryFolder folder;
  small_data_set(folder / "a.h5", 3);
  LocalFeed feed(data::DataSet({folder / "a.h5"}), {.last_iteration = 2}, 1);
  take(feed, 2);

  data::expect_error(ErrorKind::kInternal, "beyond the plan's end", [&] { feed.next(); });
  feed.close();
  feed.close();
  data::expect_error(ErrorKind::kInternal, "closed feed", [&] { feed.next(); });
}

TEST(LocalFeed, close_stopsAThreadThatIsBlocked) {
  const data::TemporaryFolder folder;
  small_data_set(folder / "a.h5", 3);
  LocalFeed unread(data::DataSet({folder / "a.h5"}), {.last_iteration = 1'000'000'000}, 1);
  LocalFeed dropped(data::DataSet({folder / "a.h5"}), {.last_iteration = 1'000'000'000}, 1);
  std::this_thread::sleep_for(20ms);

  unread.close();
}

TEST(LocalFeed, waited_countsTimeInNext) {
  const data::TemporaryFolder folder;
  small_data_set(folder / "a.h5", 3);
  LocalFeed feed(data::DataSet({folder / "a.h5"}), {.last_iteration = 1000}, 4);
  EXPECT_EQ(feed.waited_s(), 0);
  const auto begin = std::chrono::steady_clock::now();

  take(feed, 1000);

  EXPECT_GT(feed.waited_s(), 0);
  EXPECT_LE(feed.waited_s(), std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

TEST(LocalFeed, batch_staysWhileItIsHeld) {
  const data::TemporaryFolder folder;
  const data::DataSet data_set = small_data_set(folder / "a.h5", 5);
  LocalFeed feed(data::DataSet({folder / "a.h5"}), {.last_iteration = 30}, 2);
  std::vector<Batch> held;
  for (int i = 0; i < 30; ++i) held.push_back(feed.next());

  for (const Batch& batch : held) expect_content(batch, data_set.header());
}

}  // namespace
}  // namespace tmd::workers
