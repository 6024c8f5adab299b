#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/philox.h"
#include "configs/config.h"
#include "data/data_set.h"
#include "sharding/mesh.h"
#include "sharding/sharded_network.h"
#include "workers/networks.h"

namespace tmd::orchestrator {

/// What to sample: one latent for each row of `text`, N >= 1.
struct SampleRequest {
  at::Tensor text;                    // [N, S, E], equal on all ranks
  at::Tensor negative_text;           // [1, S, E]
  std::vector<int64_t> latent_shape;  // C, T, H, W
  uint64_t seed = 0;
  int64_t first_number = 0;  ///< number of row 0; the noise of a row is a function of (seed, number)
  int64_t batch = 16;        ///< rows per rank that are computed at once
  /// Of the noise that rows start from: pairs of noise and video share none with evaluations of their seed.
  Purpose noise = Purpose::kSampleNoise;
};

/// What the rows `numbers` of a sampling with `seed` start from, [rows, C, T, H, W]: the outer noise, and the
/// inner noise y_1 of outer step i of a student with a flow head, and the new noise of a step that renews it.
at::Tensor outer_noise(uint64_t seed, const std::vector<int64_t>& numbers,
                       const std::vector<int64_t>& latent_shape, at::ScalarType type,
                       Purpose purpose = Purpose::kSampleNoise);
at::Tensor inner_noise(uint64_t seed, int64_t step, const std::vector<int64_t>& numbers,
                       const std::vector<int64_t>& latent_shape, at::ScalarType type);

at::Tensor renewed_noise(uint64_t seed, int64_t step, const std::vector<int64_t>& numbers,
                         const std::vector<int64_t>& latent_shape, at::ScalarType type);

/// Throws kData when a file of the set does not say what noise its samples were made of.
void require_pairs(const data::DataSet& set);

/// Noise (Purpose::kPairNoise) that samples of a data set were generated from, in the shape and type of
/// `like`, [samples, C, T, H, W], where `like` is. Throws kInternal for a sample whose noise is not known.
at::Tensor pair_noise(const data::DataSet& set, const std::vector<int64_t>& samples, const at::Tensor& like);

/// Called on every rank after each batch with the rows that are done over all ranks.
using SampleProgress = std::function<void(int64_t done)>;

/// Samples of the teacher by `options.steps` steps (method::sample_euler, sample_unipc), on all ranks:
/// [N, C, T, H, W] float32 on the host. The rows are dealt over the ranks of the mesh; their
/// noise, and so the result up to rounding, does not depend on how. Throws kData when latents or text do not
/// fit the model. Collective over: world() of the network's mesh.
at::Tensor sample_teacher(const workers::NetworkPlan& plan, sharding::ShardedNetwork& teacher,
                          const configs::SamplerOptions& options, const SampleRequest& request,
                          const SampleProgress& progress = {});

/// The same for the student of `method` (TMD Algorithm 1; Eq. 18 for DMD2-v), from t_M times the noise;
/// `method.outer_steps` and `inner_steps` may differ from training.
at::Tensor sample_student(const workers::NetworkPlan& plan, sharding::ShardedNetwork& student,
                          const workers::MethodOptions& method, const SampleRequest& request,
                          const SampleProgress& progress = {});

}  // namespace tmd::orchestrator
