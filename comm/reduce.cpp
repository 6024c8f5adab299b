#include "comm/reduce.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace tmd::comm {
namespace {

template <class T>
void combine(T* target, const T* part, int64_t n, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      for (int64_t i = 0; i < n; ++i) target[i] = static_cast<T>(target[i] + part[i]);
      return;
    case ReduceOp::kMin:
      for (int64_t i = 0; i < n; ++i) target[i] = std::min(target[i], part[i]);
      return;
    case ReduceOp::kMax:
      for (int64_t i = 0; i < n; ++i) target[i] = std::max(target[i], part[i]);
      return;
  }
}

template <class T>
void reduce_typed(const at::Tensor& parts, const at::Tensor& output, int ranks, ReduceOp op) {
  const int64_t n = output.numel();
  const T* source = parts.const_data_ptr<T>();
  T* target = output.mutable_data_ptr<T>();
  std::memcpy(target, source, static_cast<size_t>(n) * sizeof(T));
  for (int r = 1; r < ranks; ++r) combine(target, source + r * n, n, op);
}

}  // namespace

void reduce_in_rank_order(const at::Tensor& parts, const at::Tensor& output, int ranks, ReduceOp op) {
  switch (output.scalar_type()) {
    case at::kByte:
      return reduce_typed<uint8_t>(parts, output, ranks, op);
    case at::kInt:
      return reduce_typed<int32_t>(parts, output, ranks, op);
    case at::kLong:
      return reduce_typed<int64_t>(parts, output, ranks, op);
    case at::kFloat:
      return reduce_typed<float>(parts, output, ranks, op);
    case at::kDouble:
      return reduce_typed<double>(parts, output, ranks, op);
    default:
      throw Error(ErrorKind::kInternal, "reductions take uint8, int32, int64, float32 and float64");
  }
}

}  // namespace tmd::comm
