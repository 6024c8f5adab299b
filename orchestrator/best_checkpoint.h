#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "checkpoint/store.h"
#include "evaluation/metric.h"

namespace tmd::orchestrator {

/// The checkpoint that `BEST` leads to; nothing when there is no such link, or it leads nowhere. Throws kIo.
std::optional<int64_t> linked_checkpoint(const checkpoint::Store& store);

/// Which checkpoint of a run is the best one by a metric (evaluation::badness). The link `BEST` beside the
/// checkpoints leads to it, and `score.json` in every judged checkpoint says what it has scored
/// (checkpoint/FORMAT.md), so that a later start finds both. One rank only; thread: any.
class BestCheckpoint {
 public:
  /// Keeps a reference to `store`. Nothing is read yet.
  BestCheckpoint(const checkpoint::Store& store, evaluation::Metric metric);

  /// Takes up what earlier starts have left up to step `newest`, which was loaded: the best score by this
  /// metric, or, where there is none, the link, whose checkpoint stays the best one until another is judged.
  /// Mends a link that leads elsewhere. Throws kIo when it cannot, and knows the best one still.
  void resume(int64_t newest);

  /// What the state after `step` iterations scores, before its checkpoint is complete. Values that are not
  /// finite are never the best.
  void scored(int64_t step, double value);

  /// The checkpoint of `step` is about to get its name: puts its score there, if it has one, so that no
  /// checkpoint is complete without. Throws kIo.
  void before_commit(int64_t step) const;

  /// The checkpoint of `step` is complete: leads the link to it when it is better than the best one so far;
  /// the later of two equal ones is. Throws kIo, and knows the best one still.
  void saved(int64_t step);

  /// The best one so far.
  std::optional<int64_t> step() const;

 private:
  bool is_better(double value) const;
  std::optional<double> stored_score(int64_t step) const;
  void lead_link_to(int64_t step) const;

  const checkpoint::Store& store_;
  const evaluation::Metric metric_;
  mutable std::mutex mutex_;
  std::map<int64_t, double> waiting_;  // scores of checkpoints that are not complete
  std::optional<int64_t> step_;
  std::optional<double> value_;  // of step_
};

}  // namespace tmd::orchestrator
