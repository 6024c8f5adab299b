#include "comm/reduction.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::comm {
namespace {

const std::byte* bytes(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}

at::Tensor reduced(ReduceOp op, const std::vector<at::Tensor>& inputs) {
  const at::Tensor output = at::empty_like(inputs[0]);
  std::vector<const std::byte*> pointers;
  for (const at::Tensor& input : inputs) pointers.push_back(bytes(input));
  Reduction(output.scalar_type(), op)
      .apply(pointers, static_cast<std::byte*>(output.mutable_data_ptr()), output.numel());
  return output;
}

TEST(Reduction, sum_is_taken_in_the_given_order) {
  // In fp32 (1 + 1e8) - 1e8 is 0, and (1e8 - 1e8) + 1 is 1.
  const at::Tensor one = at::full({2000}, 1.0f), large = at::full({2000}, 1e8f),
                   minus = at::full({2000}, -1e8f);
  EXPECT_TRUE(reduced(ReduceOp::kSum, {one, large, minus}).equal(at::zeros({2000})));
  EXPECT_TRUE(reduced(ReduceOp::kSum, {large, minus, one}).equal(one));
}

TEST(Reduction, every_type_and_operation_equals_aten) {
  for (at::ScalarType type : {at::kFloat, at::kDouble, at::kInt, at::kLong, at::kByte}) {
    const at::Tensor a = (at::arange(3001) * 7 % 50).to(type), b = (at::arange(3001) * 5 % 60).to(type);
    EXPECT_TRUE(reduced(ReduceOp::kMin, {a, b}).equal(at::minimum(a, b))) << type;
    EXPECT_TRUE(reduced(ReduceOp::kMax, {a, b}).equal(at::maximum(a, b))) << type;
    if (type != at::kByte) {
      EXPECT_TRUE(reduced(ReduceOp::kSum, {a, b}).equal(a + b)) << type;
    }
  }
}

TEST(Reduction, nan_stays_nan_in_minimum_and_maximum) {
  const at::Tensor nan = at::full({1}, std::numeric_limits<double>::quiet_NaN(), at::kDouble),
                   one = at::ones({1}, at::kDouble);
  for (ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
    EXPECT_TRUE(reduced(op, {nan, one}).isnan().item<bool>());
    EXPECT_TRUE(reduced(op, {one, nan}).isnan().item<bool>());
  }
}

TEST(Reduction, output_may_be_an_input) {
  const at::Tensor a = at::arange(5000, at::kDouble), b = at::ones({5000}, at::kDouble);
  const std::vector<const std::byte*> inputs{bytes(a), bytes(b)};
  Reduction(at::kDouble, ReduceOp::kSum).apply(inputs, static_cast<std::byte*>(b.mutable_data_ptr()), 5000);
  EXPECT_TRUE(b.equal(at::arange(5000, at::kDouble) + 1));
}

// One to five inputs, lengths around the vector and the block that is worked on, and every input as the
// output.
TEST(Reduction, any_number_of_inputs_and_any_length_equals_aten_in_rank_order) {
  for (int64_t elements : {0, 1, 3, 15, 17, 1023, 1024, 1025, 2500}) {
    for (size_t count = 1; count <= 5; ++count) {
      std::vector<at::Tensor> inputs;
      for (size_t i = 0; i < count; ++i)
        inputs.push_back((at::arange(elements, at::kFloat) * (0.3f + static_cast<float>(i))).sin() * 1e3f);
      at::Tensor expected = inputs[0].clone();
      for (size_t i = 1; i < count; ++i) expected = expected + inputs[i];
      EXPECT_TRUE(reduced(ReduceOp::kSum, inputs).equal(expected)) << elements << ", " << count;
      for (size_t out = 0; out < count; ++out) {
        std::vector<at::Tensor> own;
        std::vector<const std::byte*> pointers;
        for (const at::Tensor& input : inputs) own.push_back(input.clone());
        for (const at::Tensor& input : own) pointers.push_back(bytes(input));
        Reduction(at::kFloat, ReduceOp::kSum)
            .apply(pointers, static_cast<std::byte*>(own[out].mutable_data_ptr()), elements);
        EXPECT_TRUE(own[out].equal(expected)) << elements << ", " << count << ", output " << out;
      }
    }
  }
}

TEST(Reduction, sums_of_bytes_and_reduced_half_floats_are_refused) {
  EXPECT_THROW(Reduction(at::kByte, ReduceOp::kSum), Error);
  EXPECT_THROW(Reduction(at::kHalf, ReduceOp::kMax), Error);
}

}  // namespace
}  // namespace tmd::comm
