// Closed forms on Gaussians: they settle the sign of the inner step, the direction of time and the outer
// loop.

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/philox.h"
#include "method/flow.h"
#include "method/generator.h"
#include "method/grids.h"
#include "method/samplers.h"
#include "simple_networks.h"

namespace tmd::method {
namespace {

constexpr int64_t kSamples = 200'000;

at::Tensor standard_normal(uint64_t seed) {
  at::Tensor out = at::empty({kSamples, 1, 1, 1, 1}, at::kDouble);
  PhiloxStream(seed, 0, 0, Purpose::kSampleNoise).fill_normal(std::span(out.data_ptr<double>(), kSamples));
  return out;
}

double std_of(const at::Tensor& x) { return x.std().item<double>(); }

// Flow matching of data N(0, d^2): velocity E[x_1 - x | x_t] = x_t (t - (1 - t) d^2) / ((1 - t)^2 d^2 + t^2).
at::Tensor exact_velocity(const at::Tensor& x, const at::Tensor& t, double d) {
  return x * (t - (1 - t) * d * d) / ((1 - t) * (1 - t) * d * d + t * t);
}

// Posterior of y = x_1 - x given x_t: mean = exact velocity, variance below.
double posterior_std(double t, double d) { return d / std::sqrt((1 - t) * (1 - t) * d * d + t * t); }

// Average velocity of the inner flow of N(mean, sd^2) -> N(0, 1) between s and r (TMD Eq. 7 and 8), from the
// exact solution of its probability-flow ODE: y_r = mean_r + (y_s - mean_s) sigma_r / sigma_s.
at::Tensor exact_head(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r, const at::Tensor& mean,
                      double sd, const at::Tensor& y_1) {
  const auto sigma = [sd](const at::Tensor& time) {
    return at::sqrt((1 - time).square() * sd * sd + time.square());
  };
  const at::Tensor y_r = (1 - r) * mean + (y_s - (1 - s) * mean) * sigma(r) / sigma(s);
  const at::Tensor u = (y_s - y_r) / (s - r);
  return y_1 - u;
}

}  // namespace

TEST(GaussianOuterLoop, euler_has_the_closed_form_contraction) {
  const std::vector<std::pair<double, std::vector<double>>> table = {
      {0.25, {0.000, 0.235, 0.544, 0.757, 0.958}},
      {0.5, {0.000, 0.400, 0.681, 0.830, 0.971}},
      {1.0, {0.000, 0.500, 0.720, 0.851, 0.975}},
      {2.0, {0.000, 0.400, 0.681, 0.830, 0.971}}};
  const int steps[] = {1, 2, 4, 8, 50};
  for (const auto& [d, ratios] : table) {
    test::FormulaVelocity network(
        [d = d](const auto& x, const auto& t, const auto&) { return exact_velocity(x, t, d); });
    for (size_t i = 0; i < ratios.size(); ++i) {
      std::vector<double> sigmas;  // uniform times from pure noise
      for (int k = 0; k <= steps[i]; ++k) sigmas.push_back(1.0 - static_cast<double>(k) / steps[i]);
      const at::Tensor start =
          at::ones({1, 1, 1, 1, 1}, at::kDouble);  // the map is linear: one point tells the std
      const at::Tensor end =
          sample_euler(network, start, {}, {}, sigmas, {.cfg = 1, .model_time = ModelTime::kExact});
      EXPECT_NEAR(end.abs().item<double>() / d, ratios[i], 6e-4) << "d " << d << " steps " << steps[i];
    }
  }
}

// With y drawn from its exact posterior every M gives the data's distribution: signs and time order of Eq. 4.
TEST(GaussianOuterLoop, transition_matching_is_exact_for_every_step_count) {
  class Posterior : public Generator {
   public:
    explicit Posterior(double d) : d_(d) {}
    at::Tensor outer_velocity(const at::Tensor& x, const at::Tensor& t, const at::Tensor&, const at::Tensor&,
                              const at::Tensor& y_1) override {
      return exact_velocity(x, over_latent(t), d_) + posterior_std(t[0].item<double>(), d_) * y_1;
    }

   private:
    double d_;
  };
  for (double d : {0.25, 0.5, 1.0, 2.0}) {
    Posterior generator(d);
    for (int m : {1, 2, 4, 8, 50}) {
      const auto grid = student_grid(m, 5);
      // x at t_M = 0.999 is (1 - t) data + t noise
      const at::Tensor x =
          interpolate(d * standard_normal(1), standard_normal(2), at::full({kSamples}, 0.999, at::kDouble));
      const at::Tensor end =
          sample_student_steps(generator, x, {}, grid, OuterStep::kDeterministic,
                               [](int i) { return standard_normal(10 + static_cast<uint64_t>(i)); }, {});
      EXPECT_NEAR(std_of(end) / d, 1.0, 0.01) << "d " << d << " M " << m;
    }
  }
}

// The exact average velocity must land on the posterior for N = 1, 2, 4; with the printed plus sign of Eq. 13
// it moves away.
TEST(GaussianInnerLoop, exact_head_lands_on_the_posterior_for_every_step_count) {
  const double mean = 1.5, sd = 0.3;
  const at::Tensor y_1 = standard_normal(3), means = at::full_like(y_1, mean);
  test::FormulaStudent student([&](const auto& y_s, const auto& s, const auto& r, const auto&) {
    return exact_head(y_s, s, r, means, sd, y_1);
  });
  for (int n : {1, 2, 4}) {
    const at::Tensor y = test::roll_out_from(student, y_1, student_grid(n, 10));
    EXPECT_NEAR(y.mean().item<double>(), mean, 0.01) << n;
    EXPECT_NEAR(std_of(y), sd, 0.005) << n;
  }
  const auto wrong_sign =
      y_1 + 0.999 * (y_1 - exact_head(y_1, at::full({1, 1, 1, 1, 1}, 0.999, at::kDouble),
                                      at::zeros({1, 1, 1, 1, 1}, at::kDouble), means, sd, y_1));
  EXPECT_GT(std::abs(wrong_sign.mean().item<double>() - mean), 1.0) << "this test can tell the signs apart";
}

// Plain transition matching: the head is E[y | y_s], and Euler steps of its flow contract by the same table
// as those of the outer flow.
TEST(GaussianInnerLoop, instantaneous_steps_have_the_closed_form_contraction) {
  const double mean = 1.5;
  const std::vector<std::pair<double, std::vector<double>>> table = {
      {0.25, {0.000, 0.235, 0.544, 0.757, 0.958}}, {2.0, {0.000, 0.400, 0.681, 0.830, 0.971}}};
  const int steps[] = {1, 2, 4, 8, 50};
  for (const auto& [sd, ratios] : table) {
    test::FormulaStudent student([mean, sd = sd](const auto& y_s, const auto& s, const auto&, const auto&) {
      const auto slope = (1 - s) * sd * sd / ((1 - s).square() * sd * sd + s.square());
      return mean + slope * (y_s - (1 - s) * mean);
    });
    for (size_t i = 0; i < ratios.size(); ++i) {
      std::vector<double> grid;  // uniform, to pure noise
      for (int k = 0; k <= steps[i]; ++k) grid.push_back(static_cast<double>(k) / steps[i]);
      // The map is affine: the images of 0 and 1 tell its mean and its contraction.
      const at::Tensor zero = at::zeros({1, 1, 1, 1, 1}, at::kDouble), one = at::ones_like(zero);
      const auto rolled = [&](const at::Tensor& y_1) {
        return test::roll_out_from(student, y_1, grid, InnerVelocity::kInstantaneous).template item<double>();
      };
      EXPECT_NEAR(rolled(zero), mean, 1e-9) << "sd " << sd << " steps " << steps[i];
      EXPECT_NEAR((rolled(one) - rolled(zero)) / sd, ratios[i], 6e-4) << "sd " << sd << " steps " << steps[i];
    }
  }
}

// Outer and inner loop together, through the product's generator and sampler: the head is the exact average
// velocity of y | x_t, so that every M and N gives the data's distribution.
TEST(GaussianBothLoops, exact_head_gives_the_data_for_every_outer_and_inner_step_count) {
  for (double d : {0.25, 2.0}) {
    for (int m : {1, 2, 4}) {
      const auto grid = student_grid(m, 5);
      for (int n : {1, 2, 4}) {
        at::Tensor y_1;  // of the present outer step
        double t = 0;
        // m_theta is x_t itself; its time arrives with the inner noise of the step.
        test::FormulaStudent student([&](const auto& y_s, const auto& s, const auto& r, const auto& x_t) {
          const at::Tensor mean = exact_velocity(x_t, at::full_like(x_t, t), d);
          return exact_head(y_s, s, r, mean, posterior_std(t, d), y_1);
        });
        TmdGenerator generator(student, student_grid(n, 10));
        const at::Tensor x =
            interpolate(d * standard_normal(1), standard_normal(2), at::full({kSamples}, 0.999, at::kDouble));
        const at::Tensor end =
            sample_student_steps(generator, x, {}, grid, OuterStep::kDeterministic,
                                 [&](int i) {
                                   t = grid[static_cast<size_t>(i)];
                                   return y_1 = standard_normal(10 + static_cast<uint64_t>(i));
                                 },
                                 {});
        EXPECT_NEAR(std_of(end) / d, 1.0, 0.01) << "d " << d << " M " << m << " N " << n;
      }
    }
  }
}

}  // namespace tmd::method
