#pragma once

#include <ATen/core/Tensor.h>

#include "method/generator.h"

namespace tmd::method {

struct KdOptions {
  double t = 0.999;  ///< time of the noise, t_M of the student's grid
  XHat x_hat = XHat::kXtMinusTy;
};

struct KdResult {
  at::Tensor loss;   ///< [B] float64 with gradient: 0.5 mean over elements of (x_hat - x)^2
  at::Tensor x_hat;  ///< Z, without gradient
};

/// Knowledge distillation, the warm-up of one-step DMD2-v (TMD App. A.3, Table 7): the student's sample from
/// pure noise t x_1 against the video x that the teacher has made of the same x_1. x, x_1 Z; text [B, S, E];
/// y_1 Z, inner noise. Collective over: the ranks that the generator's network is cut over.
KdResult kd_step(Generator& generator, const at::Tensor& x, const at::Tensor& x_1, const at::Tensor& text,
                 const at::Tensor& y_1, const KdOptions& options);

}  // namespace tmd::method
