#pragma once

#include <initializer_list>

#include <ATen/core/Tensor.h>

namespace tmd::sharding {

/// Whether one of them carries a tangent: forward-mode differentiation is under way (method/derivative.h).
/// Autograd functions of one's own refuse tangents, so operations of ATen stand in for them then.
inline bool carries_tangent(at::TensorList tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.defined() && tensor._fw_grad(/*level=*/0).defined()) return true;
  }
  return false;
}
inline bool carries_tangent(std::initializer_list<at::Tensor> tensors) {
  return carries_tangent(at::TensorList(tensors));
}

}  // namespace tmd::sharding
