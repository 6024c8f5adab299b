#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "method/generator.h"
#include "method/grids.h"
#include "method/networks.h"

namespace tmd::method {

/// Called after every step with (step index from 0, state Z). The state has the type of the start x; UniPC
/// hands over its predicted, not yet corrected state in float64. For previews and comparisons; may be empty.
/// The tensor may be kept.
using StepObserver = std::function<void(int, const at::Tensor&)>;

/// Which time the network is told for sigma.
enum class ModelTime {
  kInteger,  ///< floor(1000 sigma) / 1000, as the original Wan code and diffusers do (Wan 2.9)
  kExact,    ///< sigma
};

struct GuidanceOptions {
  double cfg = 5;  ///< scale w of v_neg + w (v - v_neg); 1 = no negative pass
  ModelTime model_time = ModelTime::kInteger;
  /// Transformer block, counted from 0, that the negative pass leaves out: skip-layer guidance, with which
  /// the paper's noise and video pairs are made (TMD Table 7). -1 = none.
  int64_t skip_block = -1;
};

/// Euler steps on `sigmas` (noise side first, last 0): x <- x + (sigma' - sigma) v (Wan 2.9).
/// x: noise Z at sigmas[0]; text [B, S, E]; negative_text [1, S, E], not used when cfg is 1. Returns the
/// sample, Z of the type of x; steps are computed in float64. No gradients.
/// Collective over: the ranks that `teacher` is cut over.
at::Tensor sample_euler(VelocityNetwork& teacher, const at::Tensor& x, const at::Tensor& text,
                        const at::Tensor& negative_text, const std::vector<double>& sigmas,
                        const GuidanceOptions& options, const StepObserver& observe = {});

/// UniPC of order 2 (bh2, data prediction; Zhao et al. 2023, arXiv 2302.04867) as Wan2.1 uses it (Wan 2.9).
/// As sample_euler, but the state stays in float64 from step to step, and sigmas[0] < 1.
at::Tensor sample_unipc(VelocityNetwork& teacher, const at::Tensor& x, const at::Tensor& text,
                        const at::Tensor& negative_text, const std::vector<double>& sigmas,
                        const GuidanceOptions& options, const StepObserver& observe = {});

/// How a few-step student goes from t to t' < t.
enum class OuterStep {
  kDeterministic,  ///< x' = x - (t - t') y_hat (TMD Algorithm 1, Eq. 4, 18)
  kRenoise,        ///< x' = (1 - t') (x - t y_hat) + t' epsilon with new noise, as DMD2 does (TMD Eq. 19)
};

/// One such step: x, y_hat Z; epsilon Z, only looked at by kRenoise. Z of the type of x, computed in float64.
at::Tensor outer_step(OuterStep kind, const at::Tensor& x, const at::Tensor& y_hat, double t, double next,
                      const at::Tensor& epsilon);

/// Noise of an outer step i, Z.
using StepNoise = std::function<at::Tensor(int i)>;

/// Few-step student (TMD Algorithm 1):
///   for i = M .. 1:  x <- the step from t_i to t_{i-1} with y_hat(x, t_i, c)
/// For DMD2-v y_hat is the velocity. `inner_noise`: y_1 of a step; `outer_noise`: epsilon, asked for by
/// kRenoise and i > 1 only. x: start of the sampler at t_M, Z (scale noise by t_M first, as in training);
/// text [B, S, E]; `grid_t` 0 = t_0 < ... < t_M. Returns the sample, Z of the type of x. No guidance, no
/// gradients. Collective over: the ranks that the generator's network is cut over.
at::Tensor sample_student_steps(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                                const std::vector<double>& grid_t, OuterStep kind,
                                const StepNoise& inner_noise, const StepNoise& outer_noise,
                                const StepObserver& observe = {});

}  // namespace tmd::method
