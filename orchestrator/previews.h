#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "orchestrator/job.h"
#include "orchestrator/latent_pictures.h"
#include "orchestrator/latent_sheet.h"
#include "orchestrator/sampling.h"
#include "workers/stage_networks.h"

namespace tmd::orchestrator {

/// Pictures of a run while it trains: rows are the first prompts of the data set, columns are data, teacher
/// (all its steps), student and the student's average, where they are there. The noise of a cell is always
/// the same: it is a function of its row, in every run.
///
/// STEM.png and STEM.webp (write_sheet) and STEM.json, which names columns and rows; STEM is step_N with the
/// iterations done, eight digits or more.
class Previews {
 public:
  /// Writes into `folder`. Keeps a reference to `job`, of whose data set it reads the first samples. Throws,
  /// on all trainers, as LatentPictures::make. Collective over: the trainers.
  Previews(Job& job, std::filesystem::path folder);

  /// Whether after_iteration shows anything.
  bool is_due(int64_t iteration, bool stage_ends) const;
  // Both borrow `networks` for the call and give its weights back as they were. Files that cannot be written
  // cost a warning only. Collective over: the trainers.
  /// At the begin of a stage, unless the end of the stage before was shown.
  void at_stage_begin(workers::StageNetworks& networks, int64_t iteration);
  /// When `[preview] every` says so, and at the end of a stage.
  void after_iteration(workers::StageNetworks& networks, int64_t iteration, bool stage_ends);

 private:
  void make(workers::StageNetworks& networks, int64_t iteration);
  at::Tensor teacher_samples(workers::StageNetworks& networks);
  std::vector<SheetColumn> columns(workers::StageNetworks& networks);
  void write_or_warn(const std::vector<SheetColumn>& columns, int64_t iteration) const;
  void write(const std::vector<SheetColumn>& columns, int64_t iteration) const;

  Job& job_;
  std::filesystem::path folder_;
  bool is_on_ = false;
  std::unique_ptr<LatentPictures> pictures_;  // rank 0
  SampleRequest request_;
  at::Tensor data_latents_;           // [N, C, T, H, W]
  std::vector<std::string> prompts_;  // of the rows; empty texts where the data have none
  int64_t last_made_ = -1;            // iteration of the last preview
  at::Tensor frozen_samples_;         // of the frozen teacher, once they are made
};

}  // namespace tmd::orchestrator
