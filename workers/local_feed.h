#pragma once

#include <cstdint>
#include <thread>

#include "base/bounded_queue.h"
#include "data/data_set.h"
#include "workers/batch_feed.h"
#include "workers/batch_reader.h"

namespace tmd::workers {

/// Reads in the process of the trainer: a thread of its own reads ahead. Gives the same batches as a
/// RemoteFeed of the same plan, bit for bit. Thread: one at a time; next() and close() by the same thread.
class LocalFeed : public BatchFeed {
 public:
  /// Takes the data set, which its thread alone reads, and starts. At most `prefetch` >= 1 micro-batches wait
  /// to be taken while one more is read. Throws as BatchReader's constructor does, kInternal for prefetch 0.
  LocalFeed(data::DataSet data_set, const FeedPlan& plan, int64_t prefetch);
  LocalFeed(const LocalFeed&) = delete;
  LocalFeed& operator=(const LocalFeed&) = delete;
  /// Stops the thread, as close() does.
  ~LocalFeed() override;

  /// Throws as BatchFeed::next. After an error every call throws it.
  Batch next() override;
  double waited_s() const override { return waited_s_; }
  /// Not collective. May be called again.
  void close() override;

 private:
  void read_ahead();

  data::DataSet data_set_;
  BatchReader reader_;  // of thread_ while it runs
  BoundedQueue<Batch> batches_;
  double waited_s_ = 0;
  std::thread thread_;  // last: it uses the members above
};

}  // namespace tmd::workers
