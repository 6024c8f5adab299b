#include "comm/reduction.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

// -O2 of GCC 12 leaves loops scalar whose length it does not know. A sum of two numbers is the same in
// vectors.
#pragma GCC optimize("tree-loop-vectorize", "vect-cost-model=dynamic")

namespace tmd::comm {
namespace {

using Kernel = void (*)(std::span<const std::byte* const>, std::byte*, int64_t);

template <class T>
bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>) return value != value;
  return false;
}

struct Sum {
  template <class T>
  static T combine(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  }
};

struct Min {
  template <class T>
  static T combine(T a, T b) {
    return b < a || is_nan(b) ? b : a;
  }
};

struct Max {
  template <class T>
  static T combine(T a, T b) {
    return a < b || is_nan(b) ? b : a;
  }
};

// to[i] = a[i] op b[i]. `to` may be `a` or `b`, in which no element depends on another one.
template <class T, class Op>
void combine(const T* a, const T* b, T* to, int64_t elements) {
#pragma GCC ivdep
  for (int64_t i = 0; i < elements; ++i) to[i] = Op::combine(a[i], b[i]);
}

// Works on blocks that stay in the first-level cache. All but the last result go into a block of their own,
// because the output may be an input.
template <class T, class Op>
void reduce(std::span<const std::byte* const> inputs, std::byte* output, int64_t elements) {
  constexpr int64_t kBlock = 1024;
  alignas(64) T block[kBlock];
  for (int64_t begin = 0; begin < elements; begin += kBlock) {
    const int64_t count = std::min(kBlock, elements - begin);
    const auto offset = static_cast<size_t>(begin) * sizeof(T);
    const auto at = [&](const std::byte* input) { return reinterpret_cast<const T*>(input + offset); };
    T* const to = reinterpret_cast<T*>(output + offset);
    const T* left = at(inputs[0]);
    for (size_t i = 1; i < inputs.size(); ++i) {
      T* const result = i + 1 == inputs.size() ? to : block;
      combine<T, Op>(left, at(inputs[i]), result, count);
      left = result;
    }
    if (inputs.size() == 1 && left != to) std::memcpy(to, left, static_cast<size_t>(count) * sizeof(T));
  }
}

template <class T>
Kernel kernel_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return reduce<T, Sum>;
    case ReduceOp::kMin:
      return reduce<T, Min>;
    case ReduceOp::kMax:
      return reduce<T, Max>;
  }
  return nullptr;
}

Kernel kernel_of(at::ScalarType type, ReduceOp op) {
  switch (type) {
    case at::kFloat:
      return kernel_of<float>(op);
    case at::kDouble:
      return kernel_of<double>(op);
    case at::kInt:
      return kernel_of<int32_t>(op);
    case at::kLong:
      return kernel_of<int64_t>(op);
    case at::kByte:
      return op == ReduceOp::kSum ? nullptr : kernel_of<uint8_t>(op);
    default:
      return nullptr;
  }
}

}  // namespace

Reduction::Reduction(at::ScalarType type, ReduceOp op)
    : kernel_(kernel_of(type, op)), element_bytes_(c10::elementSize(type)) {
  check(kernel_ != nullptr, ErrorKind::kInternal,
        fmt::format("elements of type {} cannot be reduced with operation {}", c10::toString(type),
                    static_cast<int>(op)));
}

}  // namespace tmd::comm
