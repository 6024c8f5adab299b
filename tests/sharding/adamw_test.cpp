#include "sharding/adamw.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "sharding/adamw_kernels.h"
#include "sharding/cpu_kernels.h"

namespace tmd::sharding {
namespace {

// One parameter of two elements, one with its own rate and without decay.
class TwoParameters : public testing::Test {
 protected:
  TwoParameters()
      : network_(
            "net",
            {{"unit",
              {{"a", {2}, Initialiser::constant(1)}, {"gate", {1}, Initialiser::constant(1), 100, false}}}},
            one_.mesh, at::kDouble, true, one_.buffers) {
    for (auto& segment : network_.shard(0).segments) {
      network_.shard(0).master.narrow(0, segment.shard_offset, segment.slice.elements()).fill_(1);
      network_.shard(0).gradient.narrow(0, segment.shard_offset, segment.slice.elements()).fill_(0.5);
    }
  }
  test::SingleMesh one_;
  ShardedNetwork network_;
};

// The formulas written out, for two steps with a constant gradient g.
double reference(double lr, double decay, double g, int steps) {
  double p = 1, m = 0, v = 0;
  for (int t = 1; t <= steps; ++t) {
    p *= 1 - lr * decay;
    m = 0.9 * m + 0.1 * g;
    v = 0.99 * v + 0.01 * g * g;
    p -= lr * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.99, t))) + 1e-8);
  }
  return p;
}

// Segments longer than a task's piece, shorter ones, and ones that fill no vector; in float32.
class ManyPieces : public testing::Test {
 protected:
  ManyPieces()
      : network_(
            "net",
            {{"first",
              {{"a", {70001}, Initialiser::constant(1)}, {"b", {3}, Initialiser::constant(1), 100, false}}},
             {"second", {{"c", {33}, Initialiser::constant(1)}, {"d", {1}, Initialiser::constant(1)}}}},
            one_.mesh, at::kFloat, true, one_.buffers) {
    for (int unit = 0; unit < network_.units(); ++unit) {
      for (const auto& segment : network_.shard(unit).segments) {
        const int64_t n = segment.slice.elements();
        network_.shard(unit).master.narrow(0, segment.shard_offset, n).copy_(at::randn({n}));
        network_.shard(unit).gradient.narrow(0, segment.shard_offset, n).copy_(at::randn({n}));
      }
    }
  }

  // All state after three steps with an average.
  std::vector<at::Tensor> after_three_steps() {
    AdamW adamw(network_);
    ExponentialAverage average(network_);
    std::vector<at::Tensor> masters, state;
    for (int unit = 0; unit < network_.units(); ++unit)
      masters.push_back(network_.shard(unit).master.clone());
    for (int i = 0; i < 3; ++i) adamw.step({.lr = 1e-2, .weight_decay = 0.1}, 0.5, &average, 0.9);
    for (int unit = 0; unit < network_.units(); ++unit) {
      for (const at::Tensor& tensor : {network_.shard(unit).master, adamw.first_moment(unit),
                                       adamw.second_moment(unit), average.shard(unit)}) {
        state.push_back(tensor.clone());
      }
      network_.shard(unit).master.copy_(masters[unit]);
    }
    return state;
  }

  test::SingleMesh one_;
  ShardedNetwork network_;
};

}  // namespace

TEST_F(TwoParameters, steps_equal_the_written_out_formula) {
  AdamW adamw(network_);
  for (int i = 0; i < 2; ++i) adamw.step({.lr = 1e-2, .weight_decay = 0.1}, 1);

  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), reference(1e-2, 0.1, 0.5, 2), 1e-14);
  EXPECT_NEAR(network_.full_parameter("gate").item<double>(), reference(1.0, 0, 0.5, 2), 1e-13);
  EXPECT_EQ(adamw.steps(), 2);
}

// The same step in float64, tensor by tensor.
TEST_F(ManyPieces, steps_equal_those_of_aten_in_float64) {
  const std::vector<at::Tensor> state = after_three_steps();

  for (int unit = 0; unit < network_.units(); ++unit) {
    const UnitShard& shard = network_.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      const ParamSpec& param = network_.spec(unit).params[segment.param];
      const auto part = [&](const at::Tensor& flat) {
        return flat.narrow(0, segment.shard_offset, segment.slice.elements()).to(at::kDouble);
      };
      const double lr = 1e-2 * param.lr_multiplier, decay = param.weight_decay ? 0.1 : 0;
      at::Tensor w = part(shard.master), average = w, m = at::zeros_like(w), v = at::zeros_like(w);
      const at::Tensor g = 0.5 * part(shard.gradient);
      for (int t = 1; t <= 3; ++t) {
        m = 0.9 * m + 0.1 * g;
        v = 0.99 * v + 0.01 * g * g;
        w = w * (1 - lr * decay) -
            lr * (m / (1 - std::pow(0.9, t))) / ((v / (1 - std::pow(0.99, t))).sqrt() + 1e-8);
        average = 0.9 * average + 0.1 * w;
      }
      const at::Tensor expected[] = {w, m, v, average};
      for (int i = 0; i < 4; ++i) {
        EXPECT_TRUE(at::allclose(part(state[4 * unit + i]), expected[i], 2e-6, 1e-6))
            << param.name << " " << i;
      }
    }
  }
}

TEST_F(ManyPieces, threads_change_no_bit) {
  const double norm = gradient_norm({&network_});
  const std::vector<at::Tensor> state = after_three_steps();
  at::set_num_threads(3);
  const std::vector<at::Tensor> threaded = after_three_steps();
  EXPECT_EQ(gradient_norm({&network_}), norm);
  at::set_num_threads(1);

  for (size_t i = 0; i < state.size(); ++i) EXPECT_TRUE(threaded[i].equal(state[i])) << i;
}

// The build for any machine, called by hand, and the one that was chosen for this.
TEST_F(ManyPieces, instruction_sets_change_no_bit) {
  const at::Tensor& gradient = network_.shard(0).gradient;
  const auto run = [&](const AdamWKernels& kernels) {
    std::vector<at::Tensor> state = {gradient.clone(), gradient * 2, gradient.abs(), gradient * 3};
    const at::Tensor copy = at::zeros_like(gradient, at::kBFloat16);
    kernels.step({.is_double = false,
                  .n = gradient.numel() - 5,
                  .weight = state[0].data_ptr(),
                  .first = state[1].data_ptr(),
                  .second = state[2].data_ptr(),
                  .gradient = gradient.data_ptr(),
                  .average = state[3].data_ptr(),
                  .copy = static_cast<Bfloat16*>(copy.data_ptr())},
                 {.gradient_scale = 0.3,
                  .beta1 = 0.9,
                  .beta2 = 0.99,
                  .epsilon = 1e-8,
                  .decay = 0.999,
                  .step_size = 0.01,
                  .second_scale = 3,
                  .average_decay = 0.99});
    const int64_t stepped = gradient.numel() - 5;
    EXPECT_TRUE(copy.narrow(0, 0, stepped).equal(state[0].narrow(0, 0, stepped).to(at::kBFloat16)));
    EXPECT_EQ(copy.narrow(0, stepped, 5).count_nonzero().item<int64_t>(), 0);
    return std::pair(at::cat(state),
                     kernels.sum_of_squares(false, gradient.data_ptr(), gradient.numel() - 5));
  };
  const auto plain_result = run(plain::kAdamWKernels);
  const auto own =
      run(kernels_for_this_cpu(plain::kAdamWKernels, avx2::kAdamWKernels, avx512::kAdamWKernels));

  EXPECT_TRUE(own.first.equal(plain_result.first));
  EXPECT_EQ(own.second, plain_result.second);
}

TEST_F(ManyPieces, norm_counts_every_element_and_shows_what_is_not_finite) {
  const at::Tensor all = at::cat({network_.shard(0).gradient, network_.shard(1).gradient}).to(at::kDouble);
  EXPECT_NEAR(gradient_norm({&network_}) / all.norm().item<double>(), 1, 1e-13);
  EXPECT_NEAR(gradient_norm({&network_, &network_}) / (std::sqrt(2) * all.norm().item<double>()), 1, 1e-13);

  network_.shard(1).gradient[32] = 1e30;  // its square is beyond float32
  EXPECT_NEAR(gradient_norm({&network_}), static_cast<double>(1e30F), 1e16);
  network_.shard(1).gradient[32] = INFINITY;
  EXPECT_TRUE(std::isinf(gradient_norm({&network_})));
  network_.shard(1).gradient[32] = NAN;
  EXPECT_TRUE(std::isnan(gradient_norm({&network_})));
}

TEST_F(TwoParameters, clip_factor_scales_the_gradient) {
  AdamW adamw(network_);
  const double norm = gradient_norm({&network_});
  EXPECT_NEAR(norm, std::sqrt(3 * 0.25), 1e-14);
  EXPECT_EQ(clip_factor(norm, 0), 1);
  EXPECT_EQ(clip_factor(norm, 10), 1);
  EXPECT_NEAR(clip_factor(norm, 0.1), 0.1 / (norm + 1e-6), 1e-15);

  adamw.step({.lr = 1e-2, .weight_decay = 0}, 0.5);

  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), reference(1e-2, 0, 0.25, 1), 1e-14);
}

TEST_F(TwoParameters, average_follows_and_can_be_swapped_in_and_out) {
  ExponentialAverage average(network_);
  network_.shard(0).master.mul_(3);
  AdamW(network_).step({.lr = 0}, 1, &average, 0.75);  // 0.75 * 1 + 0.25 * 3

  average.swap(network_);
  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), 1.5, 1e-15);
  average.swap(network_);
  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), 3, 1e-15);
}

}  // namespace tmd::sharding
