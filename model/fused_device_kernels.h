#pragma once

#include <cstdint>

#include "base/device_launch.h"
#include "model/fused_kernels.h"

// The kernels of model/fused_kernels.h on a device, free of torch. A call describes whole matrices of `rows`
// tokens on the current device; `rows` is a multiple of the call's `tokens` where something differs by
// sample. What is said there of types and null pointers holds here. Pointers are aligned to their elements;
// rows that lie on 16 bytes travel 16 bytes at a time.
//
// Elements are computed as on the host, operation for operation; sums over the channels of a row and over
// tokens are added in another order than there, which the shape and the types alone fix. So a result has the
// same bits in every run, whatever the alignment and the device's schedule, and where nothing is summed, the
// host's.
//
// Stream: all enqueue on `stream`. Throws kInternal for types that do not mix, for rotations that do not fit
// the width, and as device::launch does.

namespace tmd::model::device {

using tmd::device::Stream;

/// Gradients of weights and modulations are summed over the tokens in pieces of at most kPieceTokens tokens
/// of one sample. `columns` of the backward functions is their room, [pieces_of(samples, tokens), width] in
/// the type of compute, or [pieces, 2 width] of norm_backward: scale, then shift. sum_rows adds the pieces
/// up.
constexpr int64_t kPieceTokens = 64;
constexpr int64_t pieces_of(int64_t samples, int64_t tokens) {
  return samples * tmd::device::blocks_for(tokens, kPieceTokens);
}

void norm_forward(const NormCall& call, int64_t rows, Stream stream);
/// The gradient of x if call.x_gradient, the sums of the pieces if `columns`.
void norm_backward(const NormCall& call, int64_t rows, void* columns, Stream stream);

/// RMSNorm has two halves: what is summed over a row (call.sums forward, call.products backward), and what
/// comes of it. Between them ranks that share the channels add their sums up; else both are one pass over the
/// row.
enum class RmsHalves { kSum, kFinish, kBoth };

/// The sums, or y from the sums, or both.
void rms_forward(const RmsCall& call, int64_t rows, RmsHalves halves, Stream stream);
/// The products, or the gradient of x from sums and products, or both. call.x_gradient is given, and
/// call.products, in all three cases.
void rms_backward(const RmsCall& call, int64_t rows, RmsHalves halves, Stream stream);
/// The pieces of the weight's gradient; call.sums are those of all ranks.
void rms_weight_gradient(const RmsCall& call, int64_t rows, void* columns, Stream stream);

void gate_forward(const GateCall& call, int64_t rows, Stream stream);
/// The gradient of the branch if call.branch_gradient, the pieces of the gate's if `columns`.
void gate_backward(const GateCall& call, int64_t rows, void* columns, Stream stream);

/// The tanh form of GELU of n elements, float32 or bfloat16.
void gelu_forward(Element type, const void* x, void* y, int64_t n, Stream stream);
/// Its derivative times `gradient`.
void gelu_backward(Element type, const void* x, const void* gradient, void* x_gradient, int64_t n,
                   Stream stream);

/// total[t][i] = sum over k < count of part[t * count + k][i], for t < totals and i < width; float32 or
/// float64. count may be 0.
void sum_rows(Element type, const void* part, int64_t totals, int64_t count, int64_t width, void* total,
              Stream stream);

}  // namespace tmd::model::device
