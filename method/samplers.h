#pragma once

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

/// Few-step student, deterministic outer steps (TMD Algorithm 1, Eq. 4):
///   for i = M .. 1:  x <- x - (t_i - t_{i-1}) y_hat(x, t_i, c)
/// For DMD2-v this is Eq. 18, because its y_hat is the velocity. `inner_noise(i)`: y_1, Z, of outer step i.
/// x: start of the sampler at t_M, Z (scale noise by t_M first, as in training); text [B, S, E]; `grid_t`
/// 0 = t_0 < ... < t_M. Returns the sample, Z of the type of x. No guidance, no gradients.
/// Collective over: the ranks that the generator's network is cut over.
at::Tensor sample_student_steps(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                                const std::vector<double>& grid_t,
                                const std::function<at::Tensor(int)>& inner_noise,
                                const StepObserver& observe = {});

}  // namespace tmd::method
