#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "emulated_runs.h"
#include "model/fused_device_kernels.h"
#include "model/fused_rows.h"

// Matrices of tokens for tests of device kernels, and what they are held against.

namespace tmd::test {

using device::Bits;
using model::Element;
using Tensors = std::vector<at::Tensor>;

constexpr double kEpsilon = 1e-6;

struct Shape {
  int64_t batch, tokens, width, head_dim;  // head_dim 0: no rotations
  int64_t rows() const { return batch * tokens; }
};

/// Widths that fill no pack, no warp and no block, and those of Wan; heads whose pairs cross packs; more
/// tokens than a piece has; no rows at all.
inline const std::vector<Shape> kShapes = {
    {1, 1, 1, 0},      {2, 7, 2, 2},    {1, 33, 31, 0},    {2, 5, 33, 0},     {3, 65, 36, 12},
    {1, 3, 255, 0},    {2, 70, 257, 0}, {1, 130, 128, 64}, {2, 64, 256, 128}, {1, 5, 1536, 128},
    {1, 2, 5120, 128}, {1, 2, 6006, 6}, {0, 7, 64, 64},    {2, 0, 64, 64}};

struct Types {
  at::ScalarType x, y;
};
inline const std::vector<Types> kTypes = {{at::kDouble, at::kDouble},
                                          {at::kFloat, at::kFloat},
                                          {at::kFloat, at::kBFloat16},
                                          {at::kBFloat16, at::kFloat},
                                          {at::kBFloat16, at::kBFloat16}};

/// A tensor `offset` elements from an address that is aligned to 64 bytes, between guards. All bits are set
/// before values are.
class Placed {
 public:
  Placed(at::IntArrayRef shape, at::ScalarType type, int64_t offset) {
    const auto size = static_cast<int64_t>(at::elementSize(type));
    const int64_t bytes = c10::multiply_integers(shape) * size;
    begin_ = kGuard + offset * size;
    end_ = begin_ + bytes;
    const auto memory = device::test_memory(static_cast<size_t>(end_ + kGuard));
    memory_ = at::from_blob(
                  memory.get(), {end_ + kGuard}, [memory](void*) {}, at::kByte)
                  .fill_(0xff);
    tensor_ = memory_.narrow(0, begin_, bytes).view(type).view(shape);
  }
  Placed(const at::Tensor& values, int64_t offset) : Placed(values.sizes(), values.scalar_type(), offset) {
    tensor_.copy_(values);
  }
  const at::Tensor& tensor() const { return tensor_; }
  void* data() const { return tensor_.data_ptr(); }
  bool guards_are_intact() const {
    return memory_.narrow(0, 0, begin_).eq(0xff).all().item<bool>() &&
           memory_.narrow(0, end_, kGuard).eq(0xff).all().item<bool>();
  }

 private:
  static constexpr int64_t kGuard = 64;
  int64_t begin_, end_;
  at::Tensor memory_, tensor_;
};

inline void append(Bits& bits, const Placed& placed) {
  EXPECT_TRUE(placed.guards_are_intact());
  const auto* first = static_cast<const unsigned char*>(placed.data());
  bits.insert(bits.end(), first, first + placed.tensor().nbytes());
}

inline at::Tensor random(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape, at::kDouble).to(type);
}

inline at::Tensor exact(const at::Tensor& x) { return x.to(at::kDouble); }

/// Relative error of sums and products in the types at hand, for each element.
inline double limit(at::ScalarType computed, at::ScalarType stored) {
  if (stored == at::kBFloat16) return 1.0 / 256;
  return computed == at::kDouble ? 1e-13 : 4e-6;
}

/// Each element by itself, so that a wrong tail does not hide in the size of the rest.
inline void expect_close(const Placed& actual, const at::Tensor& expected, double relative,
                         const char* what) {
  EXPECT_TRUE(actual.guards_are_intact()) << what;
  if (expected.numel() == 0) return;
  const at::Tensor error = (exact(actual.tensor()).view(expected.sizes()) - expected).abs();
  const at::Tensor allowed = relative * (expected.abs() + expected.square().mean().sqrt() + 1e-30);
  EXPECT_TRUE((error <= allowed).all().item<bool>())
      << what << ": " << (error / allowed).max().item<double>();
}

inline void expect_same(const Placed& actual, const Placed& expected, const char* what) {
  EXPECT_TRUE(actual.guards_are_intact()) << what;
  const size_t bytes = expected.tensor().nbytes();
  ASSERT_EQ(actual.tensor().nbytes(), bytes) << what;
  EXPECT_TRUE(bytes == 0 || std::memcmp(actual.data(), expected.data(), bytes) == 0) << what;
}

/// Value and gradients of a chain of ATen in float64.
struct Exact {
  at::Tensor value;
  Tensors gradients;
};
inline Exact evaluate(const std::function<at::Tensor(const Tensors&)>& function, const Tensors& inputs,
                      const at::Tensor& direction) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(exact(input).detach().clone().requires_grad_(true));
  const at::Tensor value = function(leaves);
  return {value.detach(), torch::autograd::grad({value}, leaves, {exact(direction).clone()})};
}

/// Row `i` of a matrix.
inline void* row_pointer(const Placed& matrix, int64_t i) {
  const at::Tensor& tensor = matrix.tensor();
  return static_cast<char*>(matrix.data()) + i * tensor.size(1) * static_cast<int64_t>(tensor.element_size());
}

/// Calls work(piece, begin, end) for each piece of rows that the device sums.
template <class Work>
void for_pieces(const Shape& s, Work work) {
  const int64_t per_sample = model::device::pieces_of(1, s.tokens);
  for (int64_t piece = 0; piece < s.batch * per_sample; ++piece) {
    const int64_t sample = piece / per_sample, begin = piece % per_sample * model::device::kPieceTokens;
    work(piece, sample * s.tokens + begin,
         sample * s.tokens + std::min(begin + model::device::kPieceTokens, s.tokens));
  }
}

/// The pieces' sums added up, [totals, width]; all of them if `totals` is 1.
inline Placed total_of(const Placed& columns, int64_t totals) {
  const at::Tensor& part = columns.tensor();
  const int64_t count = totals == 0 ? 0 : part.size(0) / totals;
  Placed total({totals, part.size(1)}, part.scalar_type(), 1);
  model::device::sum_rows(model::element_of(part.scalar_type()), columns.data(), totals, count, part.size(1),
                          total.data(), nullptr);
  return total;
}

/// Calls f(shape, types, offset); the same random numbers each time.
template <class F>
void for_shapes_and_types(F f) {
  at::manual_seed(1);
  for (const Shape& shape : kShapes) {
    for (const Types& types : kTypes) {
      for (const int64_t offset : {0, 1}) {
        SCOPED_TRACE(testing::Message()
                     << shape.batch << " x " << shape.tokens << " x " << shape.width << " heads of "
                     << shape.head_dim << ", " << types.x << " to " << types.y << ", offset " << offset);
        f(shape, types, offset);
      }
    }
  }
}

}  // namespace tmd::test
