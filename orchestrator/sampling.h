#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "configs/config.h"
#include "sharding/mesh.h"
#include "sharding/sharded_network.h"
#include "workers/networks.h"

namespace tmd::orchestrator {

/// What to sample: one latent for each row of `text`.
struct SampleRequest {
  at::Tensor text;             // [N, S, E], equal on all ranks
  at::Tensor negative_text;    // [1, S, E]
  std::vector<int64_t> latent_shape;  // C, T, H, W
  uint64_t seed = 0;
  int64_t first_number = 0;    ///< number of row 0; the noise of a row is a function of (seed, number)
  int64_t batch = 16;          ///< rows per rank that are computed at once
};

/// Called on every rank after each batch with the rows that are done over all ranks.
using SampleProgress = std::function<void(int64_t done)>;

/// Samples of the teacher by `options.steps` steps, on all ranks: [N, C, T, H, W] float32. The rows are dealt over the
/// ranks of the mesh; the result does not depend on how. Collective over: mesh.world().
at::Tensor sample_teacher(const workers::NetworkPlan& plan, sharding::ShardedNetwork& teacher,
                          const configs::SamplerOptions& options, const SampleRequest& request,
                          const SampleProgress& progress = {});

/// The same for the student of `method`; `method.outer_steps` and `inner_steps` may differ from training.
at::Tensor sample_student(const workers::NetworkPlan& plan, sharding::ShardedNetwork& student,
                          const workers::MethodOptions& method, const SampleRequest& request,
                          const SampleProgress& progress = {});

}  // namespace tmd::orchestrator
