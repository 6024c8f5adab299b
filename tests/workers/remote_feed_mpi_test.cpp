#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <thread>

#include "base/error.h"
#include "tests/data/expect_error.h"
#include "tests/data/temporary_folder.h"
#include "tests/support/mpi_main.h"
#include "tests/workers/feed_data.h"
#include "workers/data_worker.h"
#include "workers/local_feed.h"
#include "workers/remote_feed.h"
#include "workers/roles.h"

namespace tmd::workers {
namespace {

using namespace std::chrono_literals;

// A folder of rank 0 that all ranks read. Collective over: the world, also its end.
class SharedFolder {
 public:
  SharedFolder() {
    at::Tensor name = at::zeros({256}, at::kByte);
    if (test::world().rank() == 0) {
      folder_.emplace();
      const std::string path = folder_->path().string();
      std::ranges::copy(path, name.mutable_data_ptr<uint8_t>());
    }
    test::world().broadcast(name, 0).wait();
    path_ = reinterpret_cast<const char*>(name.const_data_ptr<uint8_t>());
  }
  ~SharedFolder() { test::world().barrier(); }

  // `write` by rank 0, before any other rank goes on.
  std::filesystem::path make(const std::string& name,
                             const std::function<void(const std::filesystem::path&)>& write) {
    if (folder_) write(path_ / name);
    test::world().barrier();
    return path_ / name;
  }

 private:
  std::optional<data::TemporaryFolder> folder_;
  std::filesystem::path path_;
};

std::filesystem::path intact_file(SharedFolder& folder, int64_t samples) {
  return folder.make("a.h5", [&](const auto& path) { small_data_set(path, samples); });
}

// Every number of data workers that this world allows.
std::vector<int> worker_counts() { return test::world().size() >= 4 ? std::vector{1, 2} : std::vector{1}; }

// The share of one trainer: the last one gets the odd rest.
FeedPlan plan_of(int trainer, int trainers, int64_t first_iteration = 1, int64_t last_iteration = 8) {
  constexpr int64_t kGlobalBatch = 10;
  const int64_t share = kGlobalBatch / trainers, first_slot = trainer * share;
  return {.seed = 77,
          .first_iteration = first_iteration,
          .last_iteration = last_iteration,
          .global_batch = kGlobalBatch,
          .first_slot = first_slot,
          .slots = trainer == trainers - 1 ? kGlobalBatch - first_slot : share,
          .micro_batch = 2};
}

bool keep_on() { return false; }

using Train = std::function<void(comm::Communicator& data, int worker, const Roles& roles)>;

// Trainers run `train` for each file, the data workers serve it; everything is closed at the end, which fails
// when a message is left over.
void run_roles(int data_workers, const std::vector<std::filesystem::path>& files, const Train& train,
               const std::function<bool()>& stop_requested = keep_on, int rounds = 1) {
  Roles roles = assign_roles(test::world(), data_workers);
  const int rank = test::world().rank();
  for (int round = 0; round < rounds; ++round) {
    if (roles.role == Role::kTrainer) {
      train(*roles.data, roles.layout.worker_of(rank), roles);
    } else {
      data::DataSet data_set(files);
      run_data_worker(*roles.data, data_set, roles.layout.trainers_of(rank), stop_requested);
    }
  }
  roles.close();
}

void expect_same_stream(BatchFeed& feed, BatchFeed& expected, int64_t batches) {
  for (int64_t i = 0; i < batches; ++i) expect_same(feed.next(), expected.next());
}

TEST(Roles, assign_splitsTheWorld) {
  for (const int workers : worker_counts()) {
    Roles roles = assign_roles(test::world(), workers);
    const int rank = test::world().rank(), trainers = test::world().size() - workers;

    EXPECT_EQ(roles.role, rank < trainers ? Role::kTrainer : Role::kDataWorker);
    EXPECT_EQ(roles.peers->size(), rank < trainers ? trainers : workers);
    EXPECT_EQ(roles.peers->rank(), rank < trainers ? rank : rank - trainers);
    EXPECT_EQ(roles.data->size(), test::world().size());
    EXPECT_EQ(roles.data->rank(), rank);
    roles.close();
  }
  EXPECT_THROW(assign_roles(test::world(), test::world().size()), Error);
}

TEST(RemoteFeed, next_givesTheStreamOfALocalFeed) {
  SharedFolder folder;
  const auto file = intact_file(folder, 13);
  for (const int workers : worker_counts()) {
    for (const int64_t prefetch : {1, 3, 1000}) {
      run_roles(workers, {file}, [&](auto& data, int worker, const Roles& roles) {
        const FeedPlan plan = plan_of(data.rank(), roles.layout.trainers);
        RemoteFeed feed(data, worker, plan, prefetch);
        LocalFeed expected(data::DataSet({file}), plan, 2);
        expect_same_stream(feed, expected, count_micro_batches(plan));
        data::expect_error(ErrorKind::kInternal, "beyond the plan's end", [&] { feed.next(); });
        feed.close();
        data::expect_error(ErrorKind::kInternal, "closed feed", [&] { feed.next(); });
      });
    }
  }
}

TEST(RemoteFeed, next_isTheTailAfterEveryResume) {
  SharedFolder folder;
  const auto file = intact_file(folder, 13);
  for (const int workers : worker_counts()) {
    for (const int64_t resumed_at : {3, 6}) {  // epochs of 13 samples begin in iterations 1, 2, 3, 4, 6, 7
      run_roles(workers, {file}, [&](auto& data, int worker, const Roles& roles) {
        const FeedPlan whole = plan_of(data.rank(), roles.layout.trainers);
        LocalFeed expected(data::DataSet({file}), whole, 2);
        take(expected, (resumed_at - 1) * micro_batches_per_iteration(whole));

        FeedPlan tail = whole;
        tail.first_iteration = resumed_at;
        RemoteFeed feed(data, worker, tail, 2);
        expect_same_stream(feed, expected, count_micro_batches(tail));
        feed.close();
      });
    }
  }
}

TEST(RemoteFeed, next_reportsBrokenSamplesAsALocalFeedDoes) {
  SharedFolder folder;
  const auto unsealed = folder.make("a.h5", [](const auto& path) {
    small_data_set(path, 6, false);
    overwrite_latent(path, 4, kNaN);
  });
  const auto sealed = folder.make("b.h5", [](const auto& path) {
    small_data_set(path, 7);
    overwrite_latent(path, 0, 3.0f);
  });
  for (const int workers : worker_counts()) {
    run_roles(workers, {unsealed, sealed}, [&](auto& data, int worker, const Roles& roles) {
      const FeedPlan plan = plan_of(data.rank(), roles.layout.trainers);
      RemoteFeed feed(data, worker, plan, 2);
      LocalFeed local(data::DataSet({unsealed, sealed}), plan, 2);
      const std::vector<Batch> batches = take(feed, count_micro_batches(plan));
      const std::vector<Batch> expected = take(local, count_micro_batches(plan));
      size_t bad = 0;
      for (size_t i = 0; i < batches.size(); ++i) {
        expect_same(batches[i], expected[i]);
        bad += batches[i].bad.size();
      }
      EXPECT_GT(bad, 0u);
      feed.close();
    });
  }
}

TEST(RemoteFeed, close_worksAtAnyMomentAndAnotherFeedFollows) {
  SharedFolder folder;
  const auto file = intact_file(folder, 13);
  for (const int workers : worker_counts()) {
    for (const int64_t prefetch : {1, 4}) {
      int64_t taken = 0;  // none, then more in every round, until the plan's end
      run_roles(
          workers, {file},
          [&](auto& data, int worker, const Roles& roles) {
            const FeedPlan plan = plan_of(data.rank(), roles.layout.trainers, 1, 3);
            RemoteFeed feed(data, worker, plan, prefetch);
            LocalFeed expected(data::DataSet({file}), plan, 2);
            expect_same_stream(feed, expected, std::min(taken, count_micro_batches(plan)));
            if (taken % 2 == 1) std::this_thread::sleep_for(5ms);  // the worker has used up its credits
            feed.close();
            feed.close();
            taken += 1 + data.rank();
          },
          keep_on, 7);
    }
  }
}

TEST(RemoteFeed, emptyPlan_closes) {
  SharedFolder folder;
  const auto file = intact_file(folder, 3);
  run_roles(1, {file}, [&](auto& data, int worker, const Roles& roles) {
    RemoteFeed feed(data, worker, plan_of(data.rank(), roles.layout.trainers, 5, 4), 2);
    data::expect_error(ErrorKind::kInternal, "beyond the plan's end", [&] { feed.next(); });
    feed.close();
  });
}

TEST(RemoteFeed, trainerThatDoesNotTake_holdsUpNobody) {
  SharedFolder folder;
  const auto file = intact_file(folder, 13);
  run_roles(1, {file}, [&](auto& data, int worker, const Roles& roles) {
    const FeedPlan plan = plan_of(data.rank(), roles.layout.trainers);
    RemoteFeed feed(data, worker, plan, 2);
    if (data.rank() == 0) roles.peers->barrier();
    take(feed, count_micro_batches(plan));
    if (data.rank() != 0) roles.peers->barrier();
    feed.close();
  });
}

// What a LocalFeed gives before it throws.
struct LocalRun {
  int64_t batches = 0;
  std::string message, hint;
};
LocalRun run_until_error(const std::filesystem::path& file, const FeedPlan& plan) {
  LocalFeed feed(data::DataSet({file}), plan, 2);
  LocalRun run;
  try {
    for (;; ++run.batches) feed.next();
  } catch (const Error& error) {
    run.message = error.what();
    run.hint = error.hint();
  }
  return run;
}

TEST(RemoteFeed, next_throwsTheErrorOfTheWorker) {
  SharedFolder folder;
  const auto file = folder.make("a.h5", [](const auto& path) {
    small_data_set(path, 50, false);
    break_all_but(path, 50, 11);
  });
  for (const int workers : worker_counts()) {
    run_roles(workers, {file}, [&](auto& data, int worker, const Roles& roles) {
      FeedPlan plan = plan_of(data.rank(), roles.layout.trainers, 1, 1000);
      plan.micro_batch = 1;
      const LocalRun expected = run_until_error(file, plan);
      EXPECT_NE(expected.message.find("no intact sample"), std::string::npos) << expected.message;
      RemoteFeed feed(data, worker, plan, 3);

      take(feed, expected.batches);
      for (int call = 0; call < 2; ++call) {
        try {
          feed.next();
          ADD_FAILURE() << "no error";
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::kData);
          EXPECT_EQ(error.what(), expected.message);
          EXPECT_EQ(error.hint(), expected.hint);
        }
      }
      feed.close();
    });
  }
}

TEST(RemoteFeed, next_throwsWhenTheWorkerCannotStart) {
  SharedFolder folder;
  const auto prompts = folder.make("prompts.h5", write_prompt_list);
  bool is_used = true;  // in the second round the feed is closed without next()
  run_roles(
      1, {prompts},
      [&](auto& data, int worker, const Roles& roles) {
        RemoteFeed feed(data, worker, plan_of(data.rank(), roles.layout.trainers), 2);
        if (is_used) data::expect_error(ErrorKind::kData, "list of prompts", [&] { feed.next(); });
        feed.close();
        is_used = false;
      },
      keep_on, 2);
}

TEST(RemoteFeed, waited_countsTheTimeInNext) {
  SharedFolder folder;
  const auto file = intact_file(folder, 5);
  const auto sleep_once = [has_slept = false]() mutable {
    if (!std::exchange(has_slept, true)) std::this_thread::sleep_for(100ms);
    return false;
  };
  test::world().barrier();
  run_roles(
      1, {file},
      [&](auto& data, int worker, const Roles& roles) {
        RemoteFeed feed(data, worker, plan_of(data.rank(), roles.layout.trainers), 2);
        EXPECT_EQ(feed.waited_s(), 0);
        feed.next();
        EXPECT_GT(feed.waited_s(), 0.03);
        feed.close();
      },
      sleep_once);
}

TEST(RemoteFeed, stopRequested_ridesWithTheBatches) {
  SharedFolder folder;
  const auto file = intact_file(folder, 5);
  int calls = 0;
  run_roles(
      1, {file},
      [&](auto& data, int worker, const Roles& roles) {
        const FeedPlan plan = plan_of(data.rank(), roles.layout.trainers, 1, 1'000'000);
        RemoteFeed feed(data, worker, plan, 2);
        EXPECT_FALSE(feed.stop_requested());
        while (!feed.stop_requested()) feed.next();
        feed.close();
      },
      [&] { return ++calls > 1000; });
}

TEST(RemoteFeed, memory_isUsedAgain) {
  SharedFolder folder;
  const auto file = intact_file(folder, 13);
  run_roles(1, {file}, [&](auto& data, int worker, const Roles& roles) {
    const FeedPlan plan = plan_of(data.rank(), roles.layout.trainers, 1, 100);
    RemoteFeed feed(data, worker, plan, 2);
    std::set<const void*> places;
    for (int64_t i = 0; i < count_micro_batches(plan); ++i)
      places.insert(feed.next().latents.const_data_ptr());
    EXPECT_LE(places.size(), 3u);
    feed.close();
  });
}

}  // namespace
}  // namespace tmd::workers
