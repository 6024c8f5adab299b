#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace tmd::comm {

/// output[i] = op over r of parts[r * n + i], r ascending, n = output.numel(). The order is fixed, so the
/// bits are. Types: uint8, int32, int64, float32, float64; kInternal for others.
void reduce_in_rank_order(const at::Tensor& parts, const at::Tensor& output, int ranks, ReduceOp op);

}  // namespace tmd::comm
