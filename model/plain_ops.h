#pragma once

#include <ATen/ATen.h>

#include "model/wan_ops.h"

// The operations of model/fused_ops.h as chains of ATen's: what differentiates in forward mode, and what the
// fused ones are held against. Arguments and results as there; results are wide where no type is given.
namespace tmd::model::plain {

inline at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate) {
  return at::addcmul(wide(x), wide(y), gate).to(x.scalar_type());
}

inline at::Tensor apply_rope(const at::Tensor& x, const at::Tensor& rotations) {
  const int64_t batch = x.size(0), tokens = x.size(1), heads = x.size(2), head_dim = x.size(3);
  const at::Tensor pairs = at::view_as_complex(wide(x).reshape({batch, tokens, heads, head_dim / 2, 2}));
  return at::view_as_real(pairs * rotations.view({1, tokens, 1, head_dim / 2})).reshape(x.sizes());
}

inline at::Tensor modulated_norm(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                                 double epsilon) {
  return at::addcmul(shift, at::layer_norm(wide(x), {x.size(-1)}, {}, {}, epsilon), 1 + scale);
}

inline at::Tensor affine_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              double epsilon) {
  return at::layer_norm(wide(x), {x.size(-1)}, weight, bias, epsilon);
}

inline at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                           at::ScalarType type) {
  const at::Tensor full = wide(x);
  const at::Tensor normed = full * at::rsqrt(full.square().mean(-1, /*keepdim=*/true) + epsilon);
  return normed.to(type) * weight.to(type);
}

}  // namespace tmd::model::plain
