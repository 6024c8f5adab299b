#pragma once

#include <cstdint>

#include "data/data_set.h"
#include "workers/batch_buffers.h"
#include "workers/batch_feed.h"
#include "workers/micro_batch.h"

namespace tmd::workers {

/// Reads the micro-batches of one rank's plan in any order. What micro-batch `index` holds depends on the
/// plan and the data alone: a broken sample is replaced by the first intact one of data::replacement_at's
/// attempts 1, 2, ..., which moves no other slot. Thread: one at a time per object and data set.
class BatchReader {
 public:
  /// Borrows `data_set`. Throws kData when it has no latents (a list of prompts), kInternal as check_plan
  /// does.
  BatchReader(data::DataSet& data_set, const FeedPlan& plan);

  const FeedPlan& plan() const { return plan_; }
  int64_t micro_batches() const { return count_micro_batches(plan_); }
  const SampleShape& shape() const { return shape_; }

  /// `bad` lists the broken samples that each row met, once per row and sample. The tensors' memory is used
  /// again once the caller has dropped them. Throws kData when a row meets broken samples only (unreadable
  /// ones are broken), kInternal for an index outside the plan.
  Batch read(int64_t index);
  /// The same sizes and place with unspecified content and no samples. Reads nothing. kInternal as read.
  Batch blank(int64_t index);

 private:
  void read_row(Batch& batch, int64_t row);

  data::DataSet& data_set_;
  FeedPlan plan_;
  SampleShape shape_;
  BatchBuffers buffers_;
};

}  // namespace tmd::workers
