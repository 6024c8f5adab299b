#include "model/fused_ops.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "aten_ops.h"
#include "base/error.h"
#include "model/fused_kernels.h"
#include "model/meta_operators.h"
#include "model/wan_block.h"

namespace tmd::model {
namespace {

using Tensors = std::vector<at::Tensor>;
using Function = std::function<at::Tensor(const Tensors&)>;

constexpr double kEpsilon = 1e-6;

struct Shape {
  int64_t batch, tokens, heads, head_dim;
  int64_t width() const { return heads * head_dim; }
};

// One token, odd counts, more than one piece of 32 tokens; heads and widths that do not fill a vector, and
// some that do.
const std::vector<Shape> kShapes = {{1, 1, 1, 8},  {2, 7, 3, 12}, {1, 33, 2, 128},
                                    {3, 70, 5, 6}, {1, 40, 2, 2}, {2, 64, 4, 32}};

// Random numbers of `type` with values near 1 in size.
at::Tensor random(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape, at::kDouble).to(type);
}

at::Tensor rotations(const Shape& shape, at::ScalarType type) {
  const at::Tensor angle = at::randn({shape.tokens, shape.head_dim / 2}, at::kDouble);
  return at::complex(at::cos(angle).to(type), at::sin(angle).to(type));
}

struct Evaluation {
  at::Tensor value;
  Tensors gradients;
};

// The value at `inputs` and the gradients of its product with `direction`.
Evaluation evaluate(const Function& function, const Tensors& inputs, const at::Tensor& direction) {
  Tensors leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.detach().clone().requires_grad_(true));
  const at::Tensor value = function(leaves);
  return {value.detach(), torch::autograd::grad({value}, leaves, {direction.to(value.scalar_type())})};
}

double distance(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_EQ(actual.sizes(), expected.sizes());
  const at::Tensor exact = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - exact).norm() / (exact.norm() + 1e-30)).item<double>();
}

// `fused` and its gradients are `plain` and its to `limit`, relative to the size of each.
void expect_equal(const Function& fused, const Function& plain, const Tensors& inputs, double limit) {
  const at::Tensor direction = random(inputs[0].sizes(), at::kDouble);
  const Evaluation actual = evaluate(fused, inputs, direction), expected = evaluate(plain, inputs, direction);
  EXPECT_EQ(actual.value.scalar_type(), expected.value.scalar_type());
  EXPECT_LT(distance(actual.value, expected.value), limit);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(actual.gradients[i].scalar_type(), inputs[i].scalar_type()) << i;
    EXPECT_LT(distance(actual.gradients[i], expected.gradients[i]), limit) << "gradient " << i;
  }
}

struct Case {
  Function fused, plain;
  std::function<Tensors(const Shape&, at::ScalarType)> inputs;  // the first has the shape of the result
};

Tensors norm_inputs(const Shape& s, at::ScalarType type) {
  return {random({s.batch, s.tokens, s.width()}, type), random({s.batch, 1, s.width()}, type),
          random({s.batch, 1, s.width()}, type)};
}

Case modulated_norm_case() {
  return {
      [](const Tensors& in) { return modulated_norm(in[0], in[1], in[2], kEpsilon, in[0].scalar_type()); },
      [](const Tensors& in) { return test::modulated_norm(in[0], in[1], in[2], kEpsilon); }, norm_inputs};
}

Case affine_norm_case() {
  return {[](const Tensors& in) { return affine_norm(in[0], in[1], in[2], kEpsilon, in[0].scalar_type()); },
          [](const Tensors& in) { return at::layer_norm(in[0], {in[0].size(2)}, in[1], in[2], kEpsilon); },
          [](const Shape& s, at::ScalarType type) {
            return Tensors{random({s.batch, s.tokens, s.width()}, type), random({s.width()}, type),
                           random({s.width()}, type)};
          }};
}

Tensors rms_inputs(const Shape& s, at::ScalarType type) {
  return {random({s.batch, s.tokens, s.width()}, type), random({s.width()}, type)};
}

RmsNormOptions rms_options(at::ScalarType type) {
  return {.epsilon = kEpsilon, .type = type, .stream = type};
}

Case rms_norm_case() {
  return {[](const Tensors& in) {
            return rms_norm({{in[0], in[1]}}, rms_options(in[0].scalar_type()))[0];
          },
          [](const Tensors& in) { return test::rms_norm(in[0], in[1], kEpsilon, in[0].scalar_type()); },
          rms_inputs};
}

at::Tensor plain_rms_rope(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& turns,
                          at::ScalarType stream) {
  const int64_t head_dim = 2 * turns.size(1);
  const at::Tensor normed = test::rms_norm(x, weight, kEpsilon, stream);
  return test::apply_rope(normed.view({x.size(0), x.size(1), x.size(2) / head_dim, head_dim}), turns)
      .view(x.sizes());
}

Case gate_case() {
  return {[](const Tensors& in) { return add_gated(in[0], in[1], in[2]); },
          [](const Tensors& in) { return test::add_gated(in[0], in[1], in[2]); },
          [](const Shape& s, at::ScalarType type) {
            return Tensors{random({s.batch, s.tokens, s.width()}, type),
                           random({s.batch, s.tokens, s.width()}, type),
                           random({s.batch, 1, s.width()}, type)};
          }};
}

Case gelu_case() {
  return {[](const Tensors& in) { return gelu_tanh(in[0]); },
          [](const Tensors& in) { return at::gelu(in[0], "tanh"); },
          [](const Shape& s, at::ScalarType type) {
            return Tensors{3 * random({s.batch, s.tokens, s.width()}, type)};
          }};
}

void expect_equal_in_both_types(const Case& c) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.batch << " x " << shape.tokens << " x " << shape.width());
    expect_equal(c.fused, c.plain, c.inputs(shape, at::kDouble), 1e-12);
    expect_equal(c.fused, c.plain, c.inputs(shape, at::kFloat), 2e-6);
  }
}

// The gradients of float64 are the slopes of central differences.
void expect_slopes(const Function& function, const Tensors& inputs) {
  constexpr double kStep = 1e-6;
  const at::Tensor direction = random(function(inputs).sizes(), at::kDouble);
  const Evaluation at_inputs = evaluate(function, inputs, direction);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const at::Tensor along = random(inputs[i].sizes(), at::kDouble);
    Tensors ahead = inputs, behind = inputs;
    ahead[i] = inputs[i] + kStep * along;
    behind[i] = inputs[i] - kStep * along;
    const double slope =
        ((function(ahead) - function(behind)) * direction).sum().item<double>() / (2 * kStep);
    const double expected = (at_inputs.gradients[i] * along).sum().item<double>();
    EXPECT_NEAR(slope, expected, 1e-7 * (1 + std::abs(expected))) << "input " << i;
  }
}

// bfloat16 as it stands in a tensor of double.
at::Tensor rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kDouble); }

}  // namespace

TEST(FusedOps, modulated_norm_equals_aten) { expect_equal_in_both_types(modulated_norm_case()); }

TEST(FusedOps, affine_norm_equals_aten) { expect_equal_in_both_types(affine_norm_case()); }

TEST(FusedOps, rms_norm_equals_aten) { expect_equal_in_both_types(rms_norm_case()); }

TEST(FusedOps, add_gated_equals_aten) { expect_equal_in_both_types(gate_case()); }

TEST(FusedOps, gelu_equals_aten) { expect_equal_in_both_types(gelu_case()); }

TEST(FusedOps, rms_norm_rope_equals_aten) {
  for (const Shape& shape : kShapes) {
    for (const auto& [type, limit] : {std::pair{at::kDouble, 1e-12}, {at::kFloat, 2e-6}}) {
      SCOPED_TRACE(testing::Message() << shape.heads << " heads of " << shape.head_dim);
      const at::Tensor turns = rotations(shape, type);
      expect_equal(
          [&](const Tensors& in) {
            return rms_norm_rope({{in[0], in[1]}}, turns, rms_options(type))[0];
          },
          [&](const Tensors& in) { return plain_rms_rope(in[0], in[1], turns, type); },
          rms_inputs(shape, type), limit);
    }
  }
}

TEST(FusedOps, gradients_are_slopes) {
  const Shape shape{2, 3, 2, 6};
  const at::Tensor turns = rotations(shape, at::kDouble);
  for (const Case& c : {modulated_norm_case(), affine_norm_case(), gate_case()}) {
    expect_slopes(c.fused, c.inputs(shape, at::kDouble));
  }
  expect_slopes(
      [&](const Tensors& in) {
        return rms_norm_rope({{in[0], in[1]}}, turns, rms_options(at::kDouble))[0];
      },
      rms_inputs(shape, at::kDouble));
}

// GELU's tanh form loses all digits below -5 when it is computed as 1 + tanh; here it has them.
TEST(FusedOps, gelu_is_exact_in_its_tails) {
  const at::Tensor x = at::tensor({-30.0, -8.0, -5.0, -1.0, -1e-3, 0.0, 1e-3, 5.0, 30.0}, at::kFloat);
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor inner = 2 * std::sqrt(2 / M_PI) * (wide + 0.044715 * wide * wide * wide);
  const at::Tensor expected = wide * at::sigmoid(inner);

  const at::Tensor y = gelu_tanh(x).to(at::kDouble);

  EXPECT_LT(((y - expected).abs() / (expected.abs() + 1e-30)).max().item<double>(), 2e-6);
  EXPECT_TRUE(std::isnan(gelu_tanh(at::full({1}, NAN))[0].item<float>()));
}

// A float32 stream: everything but the weights' type is float32, and the result is rounded once.
TEST(FusedOps, results_in_bfloat16_are_those_in_float32_rounded) {
  const Shape shape{2, 7, 3, 12};
  const at::Tensor turns = rotations(shape, at::kFloat);
  const Tensors in = norm_inputs(shape, at::kFloat);
  const at::Tensor weight = in[1][0][0];
  const auto as_bfloat16 = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  RmsNormOptions options = rms_options(at::kFloat);
  const at::Tensor narrow = as_bfloat16(in[0]);

  EXPECT_TRUE(modulated_norm(in[0], in[1], in[2], kEpsilon, at::kBFloat16)
                  .equal(as_bfloat16(modulated_norm(in[0], in[1], in[2], kEpsilon, at::kFloat))));
  const at::Tensor norm = rms_norm_rope({{narrow, weight}}, turns, options)[0];
  EXPECT_EQ(norm.scalar_type(), at::kFloat);
  options.type = at::kBFloat16;
  EXPECT_TRUE(rms_norm_rope({{narrow, weight}}, turns, options)[0].equal(as_bfloat16(norm)));
  EXPECT_TRUE(
      add_gated(narrow, in[0], in[1]).equal(as_bfloat16(add_gated(narrow.to(at::kFloat), in[0], in[1]))));
  EXPECT_TRUE(add_wide(in[0], narrow).equal(in[0] + narrow));
  EXPECT_TRUE(gelu_tanh(narrow).equal(as_bfloat16(gelu_tanh(narrow.to(at::kFloat)))));
}

// A bfloat16 stream rounds what is normalised, the weight and their product, as the chain of ATen does.
TEST(FusedOps, rms_norm_rounds_as_a_bfloat16_stream_does) {
  const Shape shape{1, 40, 2, 32};
  const at::Tensor x = random({1, 40, 64}, at::kBFloat16), weight = random({64}, at::kFloat);
  const at::Tensor turns = rotations(shape, at::kFloat);
  const RmsNormOptions options = rms_options(at::kBFloat16);

  const at::Tensor y = rms_norm({{x, weight}}, options)[0];

  const at::Tensor normed =
      x.to(at::kDouble) * at::rsqrt(x.to(at::kDouble).square().mean(-1, true) + kEpsilon);
  const at::Tensor expected = rounded(rounded(normed) * rounded(weight));
  EXPECT_LT((y.to(at::kDouble) != expected).to(at::kDouble).mean().item<double>(), 2e-3) << "ties of float32";
  EXPECT_LT(distance(y, expected), 1e-3);
  const at::Tensor turned = rms_norm_rope({{x, weight}}, turns, options)[0];
  EXPECT_LT(distance(turned, plain_rms_rope(x, weight, turns, at::kBFloat16).to(at::kBFloat16)), 1e-3);
}

TEST(FusedOps, gradients_in_bfloat16_are_near_those_of_float64) {
  constexpr double kRounding = 6e-3;  // 2^-9 for each of the factors
  const Shape shape{2, 40, 2, 32};
  const at::Tensor turns = rotations(shape, at::kFloat);
  for (const at::ScalarType stream : {at::kFloat, at::kBFloat16}) {
    RmsNormOptions options{.epsilon = kEpsilon, .type = at::kBFloat16, .stream = stream};
    const at::Tensor x = random({2, 40, 64}, at::kBFloat16), weight = random({64}, at::kFloat);
    const at::Tensor direction = random(x.sizes(), at::kBFloat16);
    const Evaluation actual = evaluate(
        [&](const Tensors& in) {
          return rms_norm_rope({{in[0], in[1]}}, turns, options)[0];
        },
        {x, weight}, direction);
    const Evaluation expected = evaluate(
        [&](const Tensors& in) {
          return plain_rms_rope(in[0], in[1], turns.to(at::kComplexDouble), at::kDouble);
        },
        {x.to(at::kDouble), weight.to(at::kDouble)}, direction);
    EXPECT_EQ(actual.gradients[0].scalar_type(), at::kBFloat16);
    for (int i = 0; i < 2; ++i)
      EXPECT_LT(distance(actual.gradients[i], expected.gradients[i]), kRounding) << i;
  }
}

// Two ranks that have half of the channels each, played one after the other.
TEST(FusedOps, rms_norm_of_split_channels_equals_the_whole) {
  const Shape shape{2, 33, 4, 8};
  const at::Tensor turns = rotations(shape, at::kDouble);
  const Tensors in = rms_inputs(shape, at::kDouble);
  const at::Tensor direction = random(in[0].sizes(), at::kDouble);
  const Evaluation whole = evaluate(
      [&](const Tensors& v) {
        return rms_norm_rope({{v[0], v[1]}}, turns, rms_options(at::kDouble))[0];
      },
      in, direction);
  const auto half = [](const at::Tensor& x, int64_t i) { return x.narrow(-1, i * 16, 16); };

  // The first time through, each half notes its sums; the second time it gets those of both.
  std::vector<Tensors> sums(2);
  for (const bool exchanges : {false, true}) {
    for (int64_t i = 0; i < 2; ++i) {
      size_t call = 0;
      RmsNormOptions options = rms_options(at::kDouble);
      options.full_width = 32;
      options.sum_over_ranks = [&](at::Tensor& own) {
        if (!exchanges) return sums[i].push_back(own.clone());
        own.add_(sums[1 - i][call++]);
      };
      const Evaluation part = evaluate(
          [&](const Tensors& v) {
            return rms_norm_rope({{v[0], v[1]}}, turns, options)[0];
          },
          {half(in[0], i), half(in[1], i)}, half(direction, i));
      if (!exchanges) continue;
      EXPECT_EQ(call, 2u) << "once in each pass";
      EXPECT_LT(distance(part.value, half(whole.value, i)), 1e-14);
      for (int k = 0; k < 2; ++k)
        EXPECT_LT(distance(part.gradients[k], half(whole.gradients[k], i)), 1e-14) << k;
    }
  }
}

// Queries and keys of a cross-attention: what each of them gives is what it gives alone, with one sum over
// ranks for both in each pass.
TEST(FusedOps, two_norms_share_their_sums_over_ranks) {
  const at::Tensor q = random({2, 33, 32}, at::kDouble), k = random({2, 5, 32}, at::kDouble);
  const at::Tensor of_q = random({32}, at::kDouble), of_k = random({32}, at::kDouble);
  const at::Tensor q_direction = random(q.sizes(), at::kDouble), k_direction = random(k.sizes(), at::kDouble);
  RmsNormOptions options = rms_options(at::kDouble);
  options.full_width = 64;
  const auto alone = [&](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& direction) {
    options.sum_over_ranks = [](at::Tensor& own) { own.mul_(2); };  // the other rank has the same numbers
    return evaluate(
        [&](const Tensors& in) {
          return rms_norm({{in[0], in[1]}}, options)[0];
        },
        {x, weight}, direction);
  };
  const Evaluation expected_q = alone(q, of_q, q_direction), expected_k = alone(k, of_k, k_direction);
  std::vector<int64_t> sums;
  options.sum_over_ranks = [&](at::Tensor& own) {
    sums.push_back(own.numel());
    own.mul_(2);
  };
  const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(true); };
  const Tensors leaves = {leaf(q), leaf(of_q), leaf(k), leaf(of_k)};

  const Tensors y = rms_norm({{leaves[0], leaves[1]}, {leaves[2], leaves[3]}}, options);
  const Tensors gradients = torch::autograd::grad({y[0], y[1]}, leaves, {q_direction, k_direction});

  EXPECT_EQ(sums, (std::vector<int64_t>{2 * 38, 2 * 38}));
  EXPECT_TRUE(y[0].equal(expected_q.value) && y[1].equal(expected_k.value));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(gradients[i].equal(expected_q.gradients[i])) << i;
    EXPECT_TRUE(gradients[2 + i].equal(expected_k.gradients[i])) << i;
  }
  // One of them alone wants a gradient: the other one's rows are there, and zero.
  const Tensors some = rms_norm({{q, of_q}, {leaves[2], of_k}}, options);
  EXPECT_TRUE(torch::autograd::grad({some[1]}, {leaves[2]}, {k_direction})[0].equal(expected_k.gradients[0]));
}

TEST(FusedOps, only_wanted_gradients_are_computed) {
  const Shape shape{2, 7, 3, 12};
  for (const Case& c : {modulated_norm_case(), affine_norm_case(), rms_norm_case(), gate_case()}) {
    const Tensors in = c.inputs(shape, at::kDouble);
    const at::Tensor direction = random(in[0].sizes(), at::kDouble);
    const Evaluation all = evaluate(c.fused, in, direction);
    for (size_t wanted = 0; wanted < in.size(); ++wanted) {
      Tensors leaves = in;
      leaves[wanted] = in[wanted].detach().clone().requires_grad_(true);
      const at::Tensor value = c.fused(leaves);
      EXPECT_TRUE(
          torch::autograd::grad({value}, {leaves[wanted]}, {direction})[0].equal(all.gradients[wanted]));
    }
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(c.fused(in).equal(all.value));
    EXPECT_FALSE(c.fused(in).requires_grad());
  }
}

TEST(FusedOps, threads_change_no_bit) {
  const Shape shape{2, 300, 5, 50};
  for (const Case& c :
       {modulated_norm_case(), affine_norm_case(), rms_norm_case(), gate_case(), gelu_case()}) {
    const Tensors in = c.inputs(shape, at::kFloat);
    const at::Tensor direction = random(in[0].sizes(), at::kFloat);
    const Evaluation one = evaluate(c.fused, in, direction);
    at::set_num_threads(3);
    const Evaluation three = evaluate(c.fused, in, direction);
    at::set_num_threads(1);
    EXPECT_TRUE(three.value.equal(one.value));
    for (size_t i = 0; i < in.size(); ++i) EXPECT_TRUE(three.gradients[i].equal(one.gradients[i])) << i;
  }
}

// The build for any machine, called by hand, and the one that was chosen for this.
TEST(FusedOps, instruction_sets_change_no_bit) {
  const at::Tensor x = 3 * random({2, 7, 53}, at::kFloat), row = random({2, 1, 53}, at::kFloat);
  const at::Tensor mean = at::empty({14}, at::kFloat), deviation = at::empty_like(mean);
  at::Tensor y = at::empty_like(x);
  const NormCall call{.x_type = Element::kFloat,
                      .y_type = Element::kFloat,
                      .width = 53,
                      .tokens = 7,
                      .x = x.data_ptr(),
                      .scale = row.data_ptr(),
                      .sample_stride = 53,
                      .one = 1,
                      .mean = mean.data_ptr(),
                      .deviation = deviation.data_ptr(),
                      .epsilon = kEpsilon,
                      .shift = row.data_ptr(),
                      .y = y.data_ptr()};

  plain::kFusedKernels.norm_forward(call, 0, 14);
  EXPECT_TRUE(y.equal(modulated_norm(x, row, row, kEpsilon, at::kFloat)));
  plain::kFusedKernels.gelu_forward(Element::kFloat, x.data_ptr(), y.data_ptr(), 0, x.numel());
  EXPECT_TRUE(y.equal(gelu_tanh(x)));
}

TEST(FusedOps, meta_tensors_give_shapes) {
  const Shape shape{2, 7, 3, 12};
  for (const Case& c :
       {modulated_norm_case(), affine_norm_case(), rms_norm_case(), gate_case(), gelu_case()}) {
    Tensors in;
    for (const at::Tensor& x : c.inputs(shape, at::kFloat))
      in.push_back(x.to(at::kMeta).requires_grad_(true));
    const at::Tensor value = c.fused(in);
    EXPECT_TRUE(value.is_meta());
    EXPECT_EQ(value.sizes(), in[0].sizes());
    const Tensors gradients = torch::autograd::grad({value}, in, {at::empty_like(value)});
    for (size_t i = 0; i < in.size(); ++i) EXPECT_EQ(gradients[i].sizes(), in[i].sizes());
  }
}

// What a planner of memory does: a block in bfloat16 with a float32 stream, forward and backward, without
// numbers.
TEST(FusedOps, a_block_of_meta_tensors_gives_shapes) {
  register_meta_operators();
  WanConfig config;
  config.heads = 2;
  config.head_dim = 12;
  config.ffn = 40;
  const auto visit_block = [&](auto& v, auto& w) { visit(v, w, config, "blocks.0"); };
  Tensors leaves;
  for (const sharding::ParamSpec& spec : declare<BlockWeights>("blocks.0", visit_block).params) {
    leaves.push_back(
        at::empty(spec.shape, at::TensorOptions(at::kMeta).dtype(spec.wide ? at::kFloat : at::kBFloat16)));
  }
  const auto weights = model::bind<BlockWeights>(leaves, visit_block);
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{2, 6, 24}, {2, 6, 24}, {2, 3, 24}}) {  // tokens, e6, context
    leaves.push_back(at::empty(shape, at::TensorOptions(at::kMeta).dtype(at::kFloat)));
  }
  for (at::Tensor& leaf : leaves) leaf.requires_grad_(true);
  const size_t n = leaves.size();

  const at::Tensor out =
      block_forward(weights, config, leaves[n - 3], leaves[n - 2], leaves[n - 1].to(at::kBFloat16),
                    rope_rotations({1, 2, 3}, 12, at::kFloat));

  EXPECT_TRUE(out.is_meta());
  EXPECT_EQ(out.sizes(), leaves[n - 3].sizes());
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  const Tensors gradients = torch::autograd::grad({out}, leaves, {at::empty_like(out)});
  for (size_t i = 0; i < n; ++i) EXPECT_EQ(gradients[i].sizes(), leaves[i].sizes()) << i;
}

TEST(FusedOps, what_does_not_fit_is_refused) {
  const at::Tensor x = random({2, 3, 8}, at::kFloat), row = random({2, 1, 8}, at::kFloat);
  EXPECT_THROW(modulated_norm(x, row, row.to(at::kDouble), kEpsilon, at::kFloat), Error);
  EXPECT_THROW(modulated_norm(x, row, random({1, 1, 8}, at::kFloat), kEpsilon, at::kFloat), Error);
  EXPECT_THROW(modulated_norm(x.to(at::kHalf), row, row, kEpsilon, at::kFloat), Error);
  EXPECT_THROW(add_gated(x, random({2, 3, 7}, at::kFloat), row), Error);
  EXPECT_THROW(rms_norm({{x, random({7}, at::kFloat)}}, rms_options(at::kFloat)), Error);
  EXPECT_THROW(rms_norm_rope({{x, random({8}, at::kFloat)}}, rotations({1, 2, 1, 8}, at::kFloat),
                             rms_options(at::kFloat)),
               Error);
}

}  // namespace tmd::model
