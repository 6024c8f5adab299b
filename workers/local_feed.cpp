#include "workers/local_feed.h"

#include <chrono>
#include <optional>
#include <pthread.h>

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::workers {

LocalFeed::LocalFeed(data::DataSet data_set, const FeedPlan& plan, int64_t prefetch)
    : data_set_(std::move(data_set)),
      reader_(data_set_, plan),
      batches_(static_cast<size_t>(prefetch)),
      thread_([this] { read_ahead(); }) {
  pthread_setname_np(thread_.native_handle(), "tmd-reader");
}

LocalFeed::~LocalFeed() { close(); }

void LocalFeed::read_ahead() {
  try {
    for (int64_t index = 0; index < reader_.micro_batches(); ++index) {
      if (!batches_.push(reader_.read(index))) return;
    }
    batches_.close();
  } catch (...) {
    batches_.fail(std::current_exception());
  }
}

Batch LocalFeed::next() {
  ensure(thread_.joinable(), "no batch is taken from a closed feed");
  const auto begin = std::chrono::steady_clock::now();
  std::optional<Batch> batch = batches_.pop();
  waited_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ensure(batch.has_value(), "no batch is taken beyond the plan's end");
  return std::move(*batch);
}

void LocalFeed::close() {
  batches_.close();
  if (thread_.joinable()) thread_.join();
}

}  // namespace tmd::workers
