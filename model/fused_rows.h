#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "model/fused_kernels.h"

// What the fused operations have in common; used by model/fused_*.cpp alone.

namespace tmd::model {

const FusedKernels& fused_kernels();

/// Throws kInternal when kernels do not know the type.
Element element_of(at::ScalarType type);

/// Type in which elements of `type` are computed: float64 for float64, else float32.
at::ScalarType compute_type(at::ScalarType type);

/// Throws kInternal unless `x` is [B, N, D] on the CPU with all that is defined of the others, or on the meta
/// device, where the others may be anywhere.
void check_operands(const at::Tensor& x, at::TensorList others);

/// An uninitialised tensor of `shape` and `type` on the device of `x`.
at::Tensor empty_beside(const at::Tensor& x, at::IntArrayRef shape, at::ScalarType type);

/// Where row `i` of a contiguous matrix lies; null when it is undefined.
void* row_pointer(const at::Tensor& matrix, int64_t i);

/// The tokens of a tensor [B, N, D], cut into pieces of at most 32 tokens of one sample.
class TokenPieces {
 public:
  explicit TokenPieces(const at::Tensor& x);

  /// Calls `work(piece, begin, end)` for each piece, the rows [begin, end) of [B * N], on several threads.
  /// Nothing on the meta device.
  void run(const std::function<void(int64_t piece, int64_t begin, int64_t end)>& work) const;

  /// Room for a row of `columns` numbers from each piece, [pieces, columns] in the type of compute.
  at::Tensor columns(int64_t columns) const;

  /// Sum of the rows of what `columns` gave: over each sample's pieces [B, columns], or over all [1,
  /// columns].
  at::Tensor sum(const at::Tensor& columns, bool by_sample) const;

 private:
  at::Tensor like_;
  int64_t samples_, tokens_, width_, pieces_per_sample_;
};

}  // namespace tmd::model
