#include "comm/reduction.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

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

// Works on blocks that stay in the first-level cache, through a block of its own because the output may be an
// input.
template <class T, class Op>
void reduce(std::span<const std::byte* const> inputs, std::byte* output, int64_t elements) {
  constexpr int64_t kBlock = 1024;
  alignas(64) T block[kBlock];
  for (int64_t begin = 0; begin < elements; begin += kBlock) {
    const int64_t count = std::min(kBlock, elements - begin);
    const auto offset = static_cast<size_t>(begin) * sizeof(T);
    std::memcpy(block, inputs[0] + offset, static_cast<size_t>(count) * sizeof(T));
    for (const std::byte* input : inputs.subspan(1)) {
      const T* values = reinterpret_cast<const T*>(input + offset);
      for (int64_t i = 0; i < count; ++i) block[i] = Op::combine(block[i], values[i]);
    }
    std::memcpy(output + offset, block, static_cast<size_t>(count) * sizeof(T));
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
