#pragma once

#include <cstdint>

// Loops over the tokens of the fused operations (model/fused_ops.h), free of torch. A call says where
// everything lies; a kernel works on the rows [begin, end) of it, a row being one token. Pointers without a
// type point to elements of the type that the call names, or of the type of compute (double if that is
// double, else float). Null results are not computed.

namespace tmd::model {

/// Types of the elements that kernels read and write.
enum class Element { kFloat, kDouble, kBfloat16 };

/// y = (x - mean(x)) / sqrt(variance(x) + epsilon) * (one + scale) + shift, over each row.
struct NormCall {
  Element x_type, y_type;
  int64_t width, tokens;  ///< row i belongs to sample i / tokens
  const void* x;          ///< [rows, width]
  const void* scale;      ///< [width] for each sample
  int64_t sample_stride;  ///< elements from one sample's scale, and shift, to the next one's
  double one;             ///< 1 for a modulation, 0 for a plain weight
  void* mean;             ///< [rows]: written forward, read backward
  void* deviation;        ///< [rows], the same: 1 / sqrt(variance + epsilon)
  double epsilon = 0;     ///< forward only, as the next two
  const void* shift = nullptr;
  void* y = nullptr;                 ///< [rows, width]
  const void* y_gradient = nullptr;  ///< backward only, as the next
  void* x_gradient = nullptr;
};

/// y = rotate(x * r * weight) with r = 1 / sqrt(sums / full_width + epsilon) of each row.
struct RmsCall {
  Element x_type, y_type;
  bool rounds;  ///< x * r and its product with the weight are rounded to bfloat16
  int64_t width, tokens, head_dim;
  const void* x;          ///< [rows, width]
  const void* weight;     ///< [width]
  const void* rotations;  ///< [tokens, head_dim]: cosine and sine of each pair of channels; null: none
  void* sums;             ///< [rows] sums of squares of x
  double full_width, epsilon;
  void* y = nullptr;                 ///< forward only
  const void* y_gradient = nullptr;  ///< backward only, as the next two
  void* products = nullptr;          ///< [rows] sums of x * weight * (gradient of x * r * weight)
  void* x_gradient = nullptr;
};

/// y = x + gate * branch
struct GateCall {
  Element x_type, branch_type;
  int64_t width, tokens;
  const void* gate;  ///< [width] for each sample; null: 1
  int64_t sample_stride;
  const void* branch;       ///< [rows, width]
  const void* x = nullptr;  ///< forward only, as the next
  void* y = nullptr;
  const void* y_gradient = nullptr;  ///< in x_type; backward only, as the next
  void* branch_gradient = nullptr;
};

/// Largest head_dim with rotations.
constexpr int64_t kMaxHeadDim = 1024;

/// One instruction set's build of the kernels. `columns` [width] (norm_backward: [2, width], scale, then
/// shift) receive the gradients of weights and modulations, summed over the rows of the call.
struct FusedKernels {
  void (*norm_forward)(const NormCall&, int64_t begin, int64_t end);
  void (*norm_backward)(const NormCall&, int64_t begin, int64_t end, void* columns);
  void (*rms_sums)(const RmsCall&, int64_t begin, int64_t end);
  void (*rms_forward)(const RmsCall&, int64_t begin, int64_t end);
  void (*rms_products)(const RmsCall&, int64_t begin, int64_t end);
  void (*rms_backward)(const RmsCall&, int64_t begin, int64_t end, void* columns);
  void (*gate_forward)(const GateCall&, int64_t begin, int64_t end);
  void (*gate_backward)(const GateCall&, int64_t begin, int64_t end, void* columns);
  /// The tanh form of GELU of elements [begin, end), float or bfloat16, and its derivative times `gradient`.
  void (*gelu_forward)(Element type, const void* x, void* y, int64_t begin, int64_t end);
  void (*gelu_backward)(Element type, const void* x, const void* gradient, void* x_gradient, int64_t begin,
                        int64_t end);
  /// total[i] = sum over `count` rows of part[row * stride + i], for the columns [begin, end); float or
  /// double.
  void (*sum_rows)(Element type, const void* part, int64_t count, int64_t stride, void* total, int64_t begin,
                   int64_t end);
};

namespace plain {
extern const FusedKernels kFusedKernels;
}
namespace avx2 {
extern const FusedKernels kFusedKernels;
}
namespace avx512 {
extern const FusedKernels kFusedKernels;
}

}  // namespace tmd::model
