#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::workers {

/// Which samples a trainer rank reads, iteration by iteration. Position of slot j in iteration k (counted
/// from 1 over the whole run) is (k - 1) * global_batch + j; data::order maps positions to samples. A rank's
/// slots are cut into micro-batches of `micro_batch` (the last one may be smaller).
struct FeedPlan {
  uint64_t seed = 0;
  int64_t first_iteration = 1;  ///< the first that is read
  int64_t last_iteration = 0;   ///< the last, inclusive
  int64_t global_batch = 1;
  int64_t first_slot = 0;  ///< this rank's slots are first_slot .. first_slot + slots
  int64_t slots = 1;
  int64_t micro_batch = 1;
};

/// A sample that was found broken and replaced (docs/formats/tmd-latents.md, "What is verified").
struct BadSample {
  int64_t sample = 0;  ///< global index in the data set
  std::string name;    ///< "file.h5 sample 17"
  std::string problem;
  bool operator==(const BadSample&) const = default;
};

/// One micro-batch of one rank. Its tensors are the holder's alone; feeds use their memory again once they
/// are dropped.
struct Batch {
  int64_t iteration = 0;
  int64_t first_slot = 0;        ///< slot of row 0 in the global batch
  at::Tensor latents;            // [B, C, T, H, W] float32
  at::Tensor text;               // [B, S, E] float32
  std::vector<int64_t> samples;  ///< global sample index of each row, after replacement
  std::vector<BadSample> bad;    ///< broken samples met while this batch was read
};

/// Micro-batches in the order of a plan. Thread: one at a time.
class BatchFeed {
 public:
  virtual ~BatchFeed() = default;
  /// The next micro-batch. Blocks until it is there. Throws kData when a row finds no intact sample (those
  /// that cannot be read count as broken), kInternal beyond the plan's end and after close(), kPeerLost when
  /// the data worker is gone.
  virtual Batch next() = 0;
  /// Seconds that next() has blocked since the feed was made.
  virtual double waited_s() const = 0;
  /// True once the data worker has told, with a batch, that its process was asked to stop.
  virtual bool stop_requested() const { return false; }
  /// Stops reading, also before the plan's end. Collective with the data worker that serves this rank, if
  /// any.
  virtual void close() = 0;
};

}  // namespace tmd::workers
