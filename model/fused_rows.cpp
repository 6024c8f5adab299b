#include "model/fused_rows.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/cpu_kernels.h"
#include "sharding/kernel_place.h"

namespace tmd::model {

namespace {

// On the host: small enough for the second pass of a norm to find its rows in the cache.
constexpr int64_t kHostPieceTokens = 32;
constexpr int64_t kPieceColumns = 256;       // of a sum over pieces
constexpr int64_t kPieceElements = 1 << 14;  // of GELU

const FusedKernels& host() {
  return sharding::kernels_for_this_cpu(plain::kFusedKernels, avx2::kFusedKernels, avx512::kFusedKernels);
}

void* row_pointer(const at::Tensor& matrix, int64_t i) {
  if (!matrix.defined()) return nullptr;
  return static_cast<char*>(matrix.data_ptr()) +
         i * matrix.size(1) * static_cast<int64_t>(matrix.element_size());
}

void* begin_of(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

bool has(RmsHalves halves, RmsHalves half) { return halves == half || halves == RmsHalves::kBoth; }

// Calls work(begin, end) for pieces of n elements.
void for_pieces(int64_t n, const std::function<void(int64_t, int64_t)>& work) {
  sharding::run_tasks((n + kPieceElements - 1) / kPieceElements, kPieceElements,
                      [&](int64_t i) { work(i * kPieceElements, std::min((i + 1) * kPieceElements, n)); });
}

}  // namespace

Element element_of(at::ScalarType type) {
  if (type == at::kDouble) return Element::kDouble;
  if (type == at::kFloat) return Element::kFloat;
  ensure(type == at::kBFloat16, "fused operations take float32, float64 and bfloat16");
  return Element::kBfloat16;
}

at::ScalarType compute_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

void check_operands(const at::Tensor& x, at::TensorList others) {
  ensure(x.dim() == 3, "fused operations take tokens [batch, tokens, channels]");
  for (const at::Tensor& other : others) {
    ensure(!other.defined() || x.is_meta() || other.device() == x.device(),
           "the operands of a fused operation lie on one device");
  }
}

at::Tensor empty_beside(const at::Tensor& x, at::IntArrayRef shape, at::ScalarType type) {
  return at::empty(shape, at::TensorOptions().device(x.device()).dtype(type));
}

TokenKernels::TokenKernels(const at::Tensor& x)
    : like_(x),
      is_meta_(x.is_meta()),
      is_on_device_(sharding::is_on_device(x)),
      samples_(x.size(0)),
      tokens_(x.size(1)),
      width_(x.size(2)),
      piece_tokens_(is_on_device_ ? device::kPieceTokens : kHostPieceTokens),
      pieces_per_sample_((tokens_ + piece_tokens_ - 1) / piece_tokens_) {}

void TokenKernels::run_on_host(const std::function<void(int64_t, int64_t, int64_t)>& work) const {
  if (is_meta_) return;
  sharding::run_tasks(samples_ * pieces_per_sample_, piece_tokens_ * width_, [&](int64_t piece) {
    const int64_t sample = piece / pieces_per_sample_, begin = piece % pieces_per_sample_ * piece_tokens_;
    work(piece, sample * tokens_ + begin, sample * tokens_ + std::min(begin + piece_tokens_, tokens_));
  });
}

void TokenKernels::norm_forward(const NormCall& call) const {
  if (is_on_device_) return device::norm_forward(call, samples_ * tokens_, sharding::stream_of(like_));
  run_on_host([&](int64_t, int64_t begin, int64_t end) { host().norm_forward(call, begin, end); });
}

void TokenKernels::norm_backward(const NormCall& call, const at::Tensor& columns) const {
  if (is_on_device_)
    return device::norm_backward(call, samples_ * tokens_, begin_of(columns), sharding::stream_of(like_));
  run_on_host([&](int64_t piece, int64_t begin, int64_t end) {
    host().norm_backward(call, begin, end, row_pointer(columns, piece));
  });
}

// On the host both halves of a piece while its rows are in the cache.
void TokenKernels::rms_forward(const RmsCall& call, RmsHalves halves) const {
  if (is_on_device_) return device::rms_forward(call, samples_ * tokens_, halves, sharding::stream_of(like_));
  run_on_host([&](int64_t, int64_t begin, int64_t end) {
    if (has(halves, RmsHalves::kSum)) host().rms_sums(call, begin, end);
    if (has(halves, RmsHalves::kFinish)) host().rms_forward(call, begin, end);
  });
}

void TokenKernels::rms_backward(const RmsCall& call, RmsHalves halves, const at::Tensor& columns) const {
  if (is_on_device_) {
    CUstream_st* stream = sharding::stream_of(like_);
    if (call.x_gradient) device::rms_backward(call, samples_ * tokens_, halves, stream);
    if (columns.defined() && has(halves, RmsHalves::kFinish))
      device::rms_weight_gradient(call, samples_ * tokens_, begin_of(columns), stream);
    return;
  }
  run_on_host([&](int64_t piece, int64_t begin, int64_t end) {
    if (has(halves, RmsHalves::kSum) && call.products) host().rms_products(call, begin, end);
    if (has(halves, RmsHalves::kFinish)) host().rms_backward(call, begin, end, row_pointer(columns, piece));
  });
}

void TokenKernels::gate_forward(const GateCall& call) const {
  if (is_on_device_) return device::gate_forward(call, samples_ * tokens_, sharding::stream_of(like_));
  run_on_host([&](int64_t, int64_t begin, int64_t end) { host().gate_forward(call, begin, end); });
}

void TokenKernels::gate_backward(const GateCall& call, const at::Tensor& columns) const {
  if (is_on_device_)
    return device::gate_backward(call, samples_ * tokens_, begin_of(columns), sharding::stream_of(like_));
  run_on_host([&](int64_t piece, int64_t begin, int64_t end) {
    host().gate_backward(call, begin, end, row_pointer(columns, piece));
  });
}

at::Tensor TokenKernels::columns(int64_t columns) const {
  return empty_beside(like_, {samples_ * pieces_per_sample_, columns}, compute_type(like_.scalar_type()));
}

at::Tensor TokenKernels::sum(const at::Tensor& columns, bool by_sample) const {
  const int64_t n = columns.size(1), totals = by_sample ? samples_ : 1, rows = columns.size(0) / totals;
  at::Tensor total = empty_beside(like_, {totals, n}, columns.scalar_type());
  if (is_meta_) return total;
  const Element type = element_of(columns.scalar_type());
  if (is_on_device_) {
    device::sum_rows(type, begin_of(columns), totals, rows, n, begin_of(total), sharding::stream_of(like_));
    return total;
  }
  const int64_t blocks = (n + kPieceColumns - 1) / kPieceColumns;
  sharding::run_tasks(totals * blocks, rows * kPieceColumns, [&](int64_t task) {
    const int64_t row = task / blocks, begin = task % blocks * kPieceColumns;
    host().sum_rows(type, row_pointer(columns, row * rows), rows, n, row_pointer(total, row), begin,
                    std::min(begin + kPieceColumns, n));
  });
  return total;
}

void gelu_forward(const at::Tensor& x, const at::Tensor& y) {
  if (x.is_meta()) return;
  const Element type = element_of(x.scalar_type());
  const void* from = x.const_data_ptr();
  void* to = y.mutable_data_ptr();
  if (sharding::is_on_device(x))
    return device::gelu_forward(type, from, to, x.numel(), sharding::stream_of(x));
  for_pieces(x.numel(), [&](int64_t begin, int64_t end) { host().gelu_forward(type, from, to, begin, end); });
}

void gelu_backward(const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& x_gradient) {
  if (x.is_meta()) return;
  const Element type = element_of(x.scalar_type());
  const void *at_x = x.const_data_ptr(), *from = gradient.const_data_ptr();
  void* to = x_gradient.mutable_data_ptr();
  if (sharding::is_on_device(x))
    return device::gelu_backward(type, at_x, from, to, x.numel(), sharding::stream_of(x));
  for_pieces(x.numel(),
             [&](int64_t begin, int64_t end) { host().gelu_backward(type, at_x, from, to, begin, end); });
}

}  // namespace tmd::model
