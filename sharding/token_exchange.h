#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "sharding/mesh.h"

namespace tmd::sharding {

/// Moves tokens and heads of one pass between the ranks of a sample group: Ulysses over the sequence axis,
/// Megatron's column and row split with token-sharded norms over the tensor axis (Wan 7.1, 7.2).
///
/// The N tokens of a sample are padded to rows() per rank; the rank of the sample group says which rows are
/// its own. Between sub-layers a rank holds its own rows, [B, rows(), D]; inside a sub-layer the ranks of a
/// tensor group hold the same chunk, [B, chunk_rows(), ...], of different heads or hidden features; in the
/// self-attention a rank holds all N tokens of heads / (sequence x tensor) heads.
///
/// What a rank's backward pass computes for anything but its own rows is its contribution; contributions are
/// summed where a function below says so, and for parameters by GradientSink. Latents and
/// velocities are whole and equal on all ranks of the group, and so are their gradients.
///
/// With one rank in the group every function returns its argument. Sums of bfloat16 are made in float32.
/// Collective over: the group that is named, in the forward pass and, where a gradient flows, in the
/// backward.
class TokenExchange {
 public:
  /// One rank alone.
  TokenExchange() = default;
  /// For `tokens` tokens on `mesh`, which must outlive all graphs. `seconds`: where the time is added that
  /// calls block, null = nowhere.
  TokenExchange(const Mesh& mesh, int64_t tokens, double* seconds);

  int sequence_ranks() const { return sequence_ ? sequence_->size() : 1; }
  int tensor_ranks() const { return tensor_ ? tensor_->size() : 1; }
  int64_t rows() const { return rows_; }                         ///< of this rank, with padding
  int64_t chunk_rows() const { return rows_ * tensor_ranks(); }  ///< of this tensor group
  /// First token of this tensor group's chunk.
  int64_t chunk_begin() const { return sequence_ ? sequence_->rank() * chunk_rows() : 0; }

  /// Whole [B, N, D] -> this rank's rows. Backward: the whole gradient from all ranks. Over: sample group.
  at::Tensor own_rows(const at::Tensor& whole) const;
  /// This rank's rows -> whole [B, N, D], without padding. Backward: this rank's rows of the gradient, which
  /// must be equal on all ranks. Over: sample group.
  at::Tensor whole(const at::Tensor& rows) const;
  /// The same where each rank computes with the whole on its own: backward sums what the ranks contribute.
  at::Tensor whole_for_each(const at::Tensor& rows) const;

  /// This rank's rows -> the chunk of the tensor group. Backward: sum of contributions. Over: tensor group.
  at::Tensor chunk(const at::Tensor& rows) const;
  /// Contributions to the chunk -> this rank's rows of their sum. Backward: the chunk. Over: tensor group.
  at::Tensor sum_to_rows(const at::Tensor& contribution) const;
  /// Adds `x`, wide, up over the tensor group, in place and without a graph: per-token sums over channels
  /// (Wan 7.3).
  void sum_over_tensor(at::Tensor& x) const;

  /// [B, chunk, H, ...] -> [B, N, H / sequence, ...]: from a chunk of all heads of this tensor rank to all
  /// tokens of some. Over: sequence group.
  at::Tensor all_tokens(const at::Tensor& chunk) const;
  /// The reverse. Over: sequence group.
  at::Tensor all_heads(const at::Tensor& tokens) const;

  /// `x` itself, equal on all ranks. Backward: sum of contributions. Over: sample group.
  at::Tensor summing_gradient(const at::Tensor& x) const;

 private:
  at::Tensor gather_rows(comm::Communicator& group, const at::Tensor& rows) const;
  at::Tensor scatter_sum(comm::Communicator& group, const at::Tensor& contribution) const;
  at::Tensor sum(comm::Communicator& group, const at::Tensor& x) const;
  at::Tensor to_tokens(const at::Tensor& chunk) const;
  at::Tensor to_heads(const at::Tensor& tokens) const;
  at::Tensor slice_rows(const at::Tensor& whole) const;
  void finish(comm::Work work) const;

  comm::Communicator* sample_ = nullptr;  // groups of one rank are null
  comm::Communicator* sequence_ = nullptr;
  comm::Communicator* tensor_ = nullptr;
  int64_t tokens_ = 0, rows_ = 0;
  double* seconds_ = nullptr;
};

/// The sum of `x` over the sample group, equal on all ranks. Backward: the gradient as it is, which must be
/// equal on all ranks. For parts that the ranks of a group have dealt among themselves, zero elsewhere.
/// Collective over: the sample group, in the forward pass.
at::Tensor sum_of_dealt(const Mesh& mesh, const at::Tensor& x);

}  // namespace tmd::sharding
