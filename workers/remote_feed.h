#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "comm/communicator.h"
#include "workers/batch_buffers.h"
#include "workers/batch_feed.h"
#include "workers/protocol.h"

namespace tmd::workers {

/// The trainer's end of workers/protocol.h: receives the batches that a data worker reads and sends ahead of
/// time. The receives of `prefetch` micro-batches are posted, so that they arrive while the trainer computes.
/// Thread: one at a time.
class RemoteFeed : public BatchFeed {
 public:
  /// Borrows `data`, in which `worker` is the rank of the data worker. Sends the plan and returns at once;
  /// prefetch >= 1. Throws kInternal for that, and as check_plan.
  RemoteFeed(comm::Communicator& data, int worker, const FeedPlan& plan, int64_t prefetch);
  RemoteFeed(const RemoteFeed&) = delete;
  RemoteFeed& operator=(const RemoteFeed&) = delete;
  /// Does not communicate; logs when the feed was not closed.
  ~RemoteFeed() override;

  /// Throws an error of the data worker with its kind, text and hint, then and in every later call; else as
  /// BatchFeed::next.
  Batch next() override;
  double waited_s() const override { return waited_s_; }
  bool stop_requested() const override { return stop_requested_; }
  /// Receives and drops what is under way. Also after an error of next(). May be called again.
  /// Throws kPeerLost.
  void close() override;

 private:
  /// A micro-batch whose receives are posted.
  struct Arrival {
    MicroBatch place;
    BatchTensors tensors;
    at::Tensor header;  // [header_words(place.rows)] int64
    std::array<comm::Work, 3> received;
  };

  void open();
  void post_receives();
  Batch finish(Arrival arrival);
  Details receive_details(int64_t bytes);
  void send(Control control);

  comm::Communicator& data_;
  const int worker_;
  const FeedPlan plan_;
  const int64_t prefetch_;
  at::Tensor greeting_;  // [kGreetingWords] int64
  comm::Work greeted_;
  std::optional<BatchBuffers> buffers_;  // once the greeting told the sample's shape
  std::deque<Arrival> arrivals_;         // oldest first
  std::deque<comm::Work> sends_;         // unfinished ones, oldest first
  int64_t posted_ = 0, taken_ = 0;       // micro-batches
  std::optional<Error> failure_;
  double waited_s_ = 0;
  bool stop_requested_ = false, is_open_ = false, is_closed_ = false;
};

}  // namespace tmd::workers
