#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/networks.h"

// Small nonlinear networks as formulas of a few weights, for comparisons of the method with the equations of
// the paper. Each formula stands alone, so that a reference can evaluate it one sample at a time and on its
// own leaves.
namespace tmd::test {

using at::Tensor;

/// Time [B] of the type of `latent`, over its axes.
inline Tensor time_over(const Tensor& time, const Tensor& latent) {
  return time.to(latent.scalar_type()).view({-1, 1, 1, 1, 1});
}

/// Mean of a text [B, S, E] over the axes of a latent.
inline Tensor text_over(const Tensor& text) { return text.mean({1, 2}).view({-1, 1, 1, 1, 1}); }

constexpr int kBackboneWeights = 4, kStudentWeights = 14, kVelocityWeights = 8;
constexpr int kGapWeight = 9;
constexpr int kHeads = 2, kHidden = 3;

/// m_theta with the weights w[0 .. 3], and the text embedding, w[4], which the head uses by itself.
inline method::StudentNetwork::MainFeature student_backbone(const Tensor& w, const Tensor& x_t,
                                                            const Tensor& t, const Tensor& text) {
  const Tensor latent =
      at::tanh(w[0] * x_t + w[1] * time_over(t, x_t) * x_t.roll(1, 1) + w[2] * text_over(text) + w[3]);
  return {latent.flatten(2).transpose(1, 2), w[4] * at::tanh(text)};
}

/// head_theta with the weights w[5 .. 13]; w[kGapWeight] is that of s - r.
inline Tensor student_head(const Tensor& w, const Tensor& y_s, const Tensor& s, const Tensor& r,
                           const method::StudentNetwork::MainFeature& m) {
  const Tensor s_over = time_over(s, y_s), gap = time_over(s - r, y_s);
  const Tensor main = m.tokens.transpose(1, 2).reshape(y_s.sizes());
  const Tensor inside = w[5] * y_s + w[6] * main + w[7] * text_over(m.context) + w[8] * at::sin(2 * s_over) +
                        w[9] * gap + w[10] * y_s.roll(1, 3);
  return w[11] * at::tanh(inside) + w[12] * y_s * s_over * at::cos(gap) + w[13] * main;
}

/// The velocity of teacher and fake score with the weights w[0 .. 4].
inline Tensor velocity_formula(const Tensor& w, const Tensor& x_t, const Tensor& t, const Tensor& text) {
  const Tensor time = time_over(t, x_t);
  return w[0] * at::tanh(w[1] * x_t + w[2] * time * x_t.roll(1, 1) + w[3] * text_over(text)) +
         w[4] * x_t * time;
}

/// Its two feature maps, with the weights w[1], w[3], w[5 .. 7].
inline std::vector<Tensor> feature_formula(const Tensor& w, const Tensor& x_t, const Tensor& t,
                                           const Tensor& text) {
  const Tensor inside = w[1] * x_t + w[5] * time_over(t, x_t) + w[3] * text_over(text);
  return {at::tanh(inside), w[6] * x_t * x_t + w[7] * at::sin(inside)};
}

/// Logits [B, heads] with the weights d [2, heads, hidden]: hidden unit k of head h is the tanh of a weighted
/// mean of map h. `keep` as DiscriminatorNetwork.
inline Tensor discriminator_formula(const Tensor& d, const std::vector<Tensor>& maps,
                                    const std::vector<Tensor>& keep) {
  std::vector<Tensor> logits;
  for (int h = 0; h < kHeads; ++h) {
    const Tensor flat = maps[h].flatten(1);
    const Tensor position = at::arange(flat.size(1), flat.options());
    std::vector<Tensor> hidden;
    for (int k = 0; k < kHidden; ++k)
      hidden.push_back(at::tanh(3 * d[0][h][k] * (flat * at::cos((k + 1) * position)).mean(1)));
    Tensor units = at::stack(hidden, 1);
    if (!keep.empty()) units = units * keep[h].to(units.scalar_type());
    logits.push_back((units * d[1][h]).sum(1));
  }
  return at::stack(logits, 1);
}

/// The student of the formulas; `w` is its leaf.
class PaperStudent : public method::StudentNetwork {
 public:
  explicit PaperStudent(Tensor weights) : w(std::move(weights)) {}
  MainFeature backbone(const Tensor& x_t, const Tensor& t, const Tensor& text) override {
    return student_backbone(w, x_t, t, text);
  }
  Tensor head(const Tensor& y_s, const Tensor& s, const Tensor& r, const MainFeature& m) override {
    return student_head(w, y_s, s, r, m);
  }
  Tensor w;
};

/// A student without an outer state before its head, as MeanFlow's is: u(x_t, t, r; c).
class PaperMeanFlowStudent : public method::StudentNetwork {
 public:
  explicit PaperMeanFlowStudent(Tensor weights) : w(std::move(weights)) {}
  MainFeature backbone(const Tensor& x_t, const Tensor&, const Tensor& text) override {
    return mean_flow_feature(w, x_t, text);
  }
  Tensor head(const Tensor& y_s, const Tensor& s, const Tensor& r, const MainFeature& m) override {
    return student_head(w, y_s, s, r, m);
  }
  /// Only the text gets through; of x_t the shape.
  static MainFeature mean_flow_feature(const Tensor& w, const Tensor& x_t, const Tensor& text) {
    const Tensor spread = at::tanh(w[2] * text_over(text) + w[3]) * at::ones_like(x_t);
    return {spread.flatten(2).transpose(1, 2), w[4] * at::tanh(text)};
  }
  Tensor w;
};

class PaperVelocity : public method::VelocityNetwork {
 public:
  explicit PaperVelocity(Tensor weights) : w(std::move(weights)) {}
  Tensor velocity(const Tensor& x_t, const Tensor& t, const Tensor& text) override {
    return velocity_formula(w, x_t, t, text);
  }
  WithFeatures velocity_and_features(const Tensor& x_t, const Tensor& t, const Tensor& text,
                                     bool features_only) override {
    return {features_only ? Tensor() : velocity_formula(w, x_t, t, text), feature_formula(w, x_t, t, text)};
  }
  Tensor w;
};

class PaperDiscriminator : public method::DiscriminatorNetwork {
 public:
  explicit PaperDiscriminator(Tensor weights) : d(std::move(weights)) {}
  Tensor logits(const std::vector<Tensor>& maps, const std::vector<Tensor>& keep) override {
    return discriminator_formula(d, maps, keep);
  }
  Tensor d;
};

/// Numbers that float32 holds exactly, as float64: both precisions then compute from the same values.
inline Tensor normal(at::IntArrayRef shape) { return at::randn(shape, at::kFloat).to(at::kDouble); }
inline Tensor some_weights(at::IntArrayRef shape) { return 0.5 * normal(shape); }

/// A leaf of its own with the same values.
inline Tensor leaf(const Tensor& values, at::ScalarType type, bool gradient = true) {
  return values.detach().to(type).clone().requires_grad_(gradient);
}

/// Row b with its axis: [1, ...]; undefined stays undefined.
inline Tensor row(const Tensor& batch, int64_t b) { return batch.defined() ? batch.narrow(0, b, 1) : batch; }

/// Largest difference over the largest expected value.
inline double relative_error(const Tensor& actual, const Tensor& expected) {
  if (!actual.defined() || !expected.defined() || actual.sizes() != expected.sizes()) return INFINITY;
  const Tensor wanted = expected.detach().to(at::kDouble);
  const double difference = (actual.detach().to(at::kDouble) - wanted).abs().max().item<double>();
  const double scale = wanted.abs().max().item<double>();
  return difference / (scale > 0 ? scale : 1);
}

inline void expect_close(const Tensor& actual, const Tensor& expected, double tolerance,
                         const std::string& name) {
  const double error = relative_error(actual, expected);
  EXPECT_TRUE(error <= tolerance) << name << " is off by " << error;  // a NaN fails
}

/// The same for every sample by itself.
inline void expect_rows_close(const Tensor& actual, const Tensor& expected, double tolerance,
                              const std::string& name) {
  ASSERT_TRUE(actual.defined() && actual.size(0) == expected.size(0)) << name;
  for (int64_t b = 0; b < expected.size(0); ++b)
    expect_close(actual[b], expected[b], tolerance, name + " of sample " + std::to_string(b));
}

}  // namespace tmd::test
