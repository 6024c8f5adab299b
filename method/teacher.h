#pragma once

#include <ATen/core/Tensor.h>

#include "method/networks.h"

namespace tmd::method {

struct TeacherOptions {
  double time_shift = 3;                 ///< times are clamp(shift(U; time_shift))
  double t_low = 0.001, t_high = 0.999;  ///< range of U and clamp of t
};

/// Random numbers of a step, one row per sample.
struct TeacherDraws {
  at::Tensor noise;           ///< Z, N(0, 1)
  at::Tensor t_uniform;       ///< [B] float64, uniform in [t_low, t_high), before shift and clamp
  at::Tensor drop_condition;  ///< [B] bool, text replaced by the negative prompt
};

struct TeacherResult {
  at::Tensor loss;  ///< [B] float64 with gradient: mean over elements of (v - (noise - x))^2
  at::Tensor t;     ///< [B] float64
};

/// Flow matching (Lipman et al. 2022, arXiv 2210.02747; Wan's objective): the velocity noise - data at
/// x_t = (1 - t) x + t noise (TMD Eq. 1, 2).
/// x Z data, text [B, S, E], negative_text [1, S, E]. Collective over: the ranks that `network` is cut over.
TeacherResult teacher_step(VelocityNetwork& network, const at::Tensor& x, const at::Tensor& text,
                           const at::Tensor& negative_text, const TeacherDraws& draws,
                           const TeacherOptions& options);

}  // namespace tmd::method
