#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "model/fused_device_kernels.h"
#include "model/fused_kernels.h"

// What the fused operations have in common; used by model/fused_*.cpp alone.

namespace tmd::model {

/// Throws kInternal when kernels do not know the type.
Element element_of(at::ScalarType type);

/// Type in which elements of `type` are computed: float64 for float64, else float32.
at::ScalarType compute_type(at::ScalarType type);

/// Throws kInternal unless `x` is [B, N, D] with all that is defined of the others on its device, or on the
/// meta device, where the others may be anywhere.
void check_operands(const at::Tensor& x, at::TensorList others);

/// An uninitialised tensor of `shape` and `type` on the device of `x`.
at::Tensor empty_beside(const at::Tensor& x, at::IntArrayRef shape, at::ScalarType type);

using device::RmsHalves;

/// The kernels over all tokens of a tensor [B, N, D], where it lies: on the host's threads, in pieces of a
/// few tokens of one sample, or on the stream of its device. On the meta device they do nothing.
///
/// `columns`: what `columns()` gave, to receive the sums of the pieces for gradients of weights and
/// modulations; undefined: those are not wanted.
class TokenKernels {
 public:
  explicit TokenKernels(const at::Tensor& x);

  void norm_forward(const NormCall& call) const;
  void norm_backward(const NormCall& call, const at::Tensor& columns) const;
  void rms_forward(const RmsCall& call, RmsHalves halves) const;
  /// The gradient of x if call.x_gradient; that of the weight with the second half.
  void rms_backward(const RmsCall& call, RmsHalves halves, const at::Tensor& columns) const;
  void gate_forward(const GateCall& call) const;
  void gate_backward(const GateCall& call, const at::Tensor& columns) const;

  /// Room for a row of `columns` numbers from each piece, [pieces, columns] in the type of compute.
  at::Tensor columns(int64_t columns) const;
  /// Sum of the rows of what `columns` gave: over each sample's pieces [B, columns], or over all [1,
  /// columns].
  at::Tensor sum(const at::Tensor& columns, bool by_sample) const;

 private:
  // Calls `work(piece, begin, end)` for each piece, the rows [begin, end) of [B * N], on several threads.
  void run_on_host(const std::function<void(int64_t piece, int64_t begin, int64_t end)>& work) const;

  at::Tensor like_;
  bool is_meta_;
  bool is_on_device_;
  int64_t samples_, tokens_, width_, piece_tokens_, pieces_per_sample_;
};

/// The tanh form of GELU of x into y, and its derivative times `gradient` into x_gradient; contiguous, of one
/// type and size.
void gelu_forward(const at::Tensor& x, const at::Tensor& y);
void gelu_backward(const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& x_gradient);

}  // namespace tmd::model
