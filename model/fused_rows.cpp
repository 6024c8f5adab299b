#include "model/fused_rows.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/cpu_kernels.h"

namespace tmd::model {

namespace {
constexpr int64_t kPieceTokens =
    32;  // small enough for the second pass of a norm to find its rows in the cache
constexpr int64_t kPieceColumns = 256;  // of a sum over pieces
}  // namespace

const FusedKernels& fused_kernels() {
  return sharding::kernels_for_this_cpu(plain::kFusedKernels, avx2::kFusedKernels, avx512::kFusedKernels);
}

Element element_of(at::ScalarType type) {
  if (type == at::kDouble) return Element::kDouble;
  if (type == at::kFloat) return Element::kFloat;
  ensure(type == at::kBFloat16, "fused operations take float32, float64 and bfloat16");
  return Element::kBfloat16;
}

at::ScalarType compute_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

void check_operands(const at::Tensor& x, at::TensorList others) {
  ensure(x.is_cpu() || x.is_meta(), "fused operations run on the CPU and on the meta device");
  ensure(x.dim() == 3, "fused operations take tokens [batch, tokens, channels]");
  for (const at::Tensor& other : others) {
    ensure(!other.defined() || x.is_meta() || other.is_cpu(),
           "the operands of a tensor on the CPU lie there");
  }
}

at::Tensor empty_beside(const at::Tensor& x, at::IntArrayRef shape, at::ScalarType type) {
  return at::empty(shape, at::TensorOptions().device(x.device()).dtype(type));
}

void* row_pointer(const at::Tensor& matrix, int64_t i) {
  if (!matrix.defined()) return nullptr;
  return static_cast<char*>(matrix.data_ptr()) +
         i * matrix.size(1) * static_cast<int64_t>(matrix.element_size());
}

TokenPieces::TokenPieces(const at::Tensor& x)
    : like_(x),
      samples_(x.size(0)),
      tokens_(x.size(1)),
      width_(x.size(2)),
      pieces_per_sample_((tokens_ + kPieceTokens - 1) / kPieceTokens) {}

void TokenPieces::run(const std::function<void(int64_t, int64_t, int64_t)>& work) const {
  if (like_.is_meta()) return;
  sharding::run_tasks(samples_ * pieces_per_sample_, kPieceTokens * width_, [&](int64_t piece) {
    const int64_t sample = piece / pieces_per_sample_, begin = piece % pieces_per_sample_ * kPieceTokens;
    work(piece, sample * tokens_ + begin, sample * tokens_ + std::min(begin + kPieceTokens, tokens_));
  });
}

at::Tensor TokenPieces::columns(int64_t columns) const {
  return empty_beside(like_, {samples_ * pieces_per_sample_, columns}, compute_type(like_.scalar_type()));
}

at::Tensor TokenPieces::sum(const at::Tensor& columns, bool by_sample) const {
  const int64_t n = columns.size(1), totals = by_sample ? samples_ : 1, rows = columns.size(0) / totals;
  at::Tensor total = empty_beside(like_, {totals, n}, columns.scalar_type());
  if (like_.is_meta()) return total;
  const Element type = element_of(columns.scalar_type());
  const int64_t blocks = (n + kPieceColumns - 1) / kPieceColumns;
  sharding::run_tasks(totals * blocks, rows * kPieceColumns, [&](int64_t task) {
    const int64_t row = task / blocks, begin = task % blocks * kPieceColumns;
    fused_kernels().sum_rows(type, row_pointer(columns, row * rows), rows, n, row_pointer(total, row), begin,
                             std::min(begin + kPieceColumns, n));
  });
  return total;
}

}  // namespace tmd::model
