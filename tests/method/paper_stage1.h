#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "method/stage1.h"
#include "paper_networks.h"

// Stage 1 in float64 and one sample at a time, in the average velocity u as the paper writes it. The product
// computes in h = y_1 - u.
namespace tmd::test {

/// Inner flow of one sample: what u needs beside state and times.
struct PaperInner {
  const Tensor& w;
  method::InnerForm form;
  method::StudentNetwork::MainFeature m;
  Tensor x_t, y_1;
  double t = 0;
};

/// u(y_s, s, r; m): TMD Eq. 14, App. B.4, or the head itself. s, r [1] float64.
inline Tensor paper_u(const PaperInner& inner, const Tensor& y_s, const Tensor& s, const Tensor& r) {
  const Tensor head = student_head(inner.w, y_s, s, r, inner.m);
  if (inner.form.output == method::HeadOutput::kAverageVelocity) return head;
  if (inner.form.target == method::InnerTarget::kVelocity) return inner.y_1 - head;
  return (y_s - (inner.x_t - inner.t * head)) / s.view({1, 1, 1, 1, 1});
}

inline Tensor one(double value) { return at::full({1}, value, at::kDouble); }

using PaperFunction = std::function<Tensor(const Tensor& y, const Tensor& s)>;

/// Total derivative, an element at a time: d/de of f(y + e v, s + e) at e = 0.
inline Tensor paper_exact(const PaperFunction& f, const Tensor& y, const Tensor& v, double s) {
  const Tensor e = at::zeros({1}, at::kDouble).requires_grad_(true);
  const Tensor value = f(y + e.view({1, 1, 1, 1, 1}) * v, one(s) + e).flatten();
  Tensor result = at::zeros(value.numel(), at::kDouble);
  for (int64_t i = 0; i < value.numel(); ++i)
    result[i] = torch::autograd::grad({value[i]}, {e}, {}, /*retain_graph=*/true)[0][0];
  return result.view(y.sizes());
}

/// TMD App. A.2: central, one-sided where a side leaves the range, zero where both do.
inline Tensor paper_difference(const PaperFunction& f, const Tensor& y, const Tensor& v, double s, double r,
                               double delta, double low) {
  const bool forward = s + delta <= 0.999, backward = s - delta >= low && s - delta > r;
  const double a = forward ? delta : 0, b = backward ? -delta : 0;
  if (a == b) return at::zeros_like(y);
  return ((f(y + a * v, one(s + a)) - f(y + b * v, one(s + b))) / (a - b)).detach();
}

struct PaperStage1 {
  Tensor S, loss;                                             ///< [B]
  Tensor t, s, r;                                             ///< [B]
  Tensor x_t, y_s, h, target, y_guided, tangent, derivative;  ///< Z, in h = y_1 - u
};

struct Stage1Inputs {
  Tensor x, text, negative;
  method::Stage1Draws draws;
};

inline double paper_shift(double u, double g) { return g * u / ((g - 1) * u + 1); }

/// s and r of a sample (TMD App. A.2, Algorithm 2; a continuous interval: MeanFlow Sec. 4.3, where the larger
/// of two draws is s).
inline std::pair<double, double> paper_times(const Stage1Inputs& in, int64_t b,
                                             const method::Stage1Options& options) {
  const auto time = [&](const Tensor& uniform) {
    const double shifted = paper_shift(uniform[b].item<double>(), options.s_shift);
    return std::min(std::max(shifted, options.s_low), options.s_high);
  };
  double s = time(in.draws.s_uniform), r = 0;
  if (options.interval == method::Interval::kContinuous) {
    const double other = time(in.draws.r_uniform);
    r = std::min(s, other);
    s = std::max(s, other);
  } else {
    for (double point : options.grid_s)
      if (point <= s) r = std::max(r, point);
  }
  if (options.objective == method::Stage1Objective::kTm || in.draws.flow_matching[b].item<bool>()) r = s;
  return {s, r};
}

/// Everything of one sample up to the loss, given its inner flows for the text shown, for its own text and
/// for the negative one.
struct PaperSample1 {
  Tensor y, y_s, v, u, u_hat, v_guided, tangent, du;
};
inline PaperSample1 paper_regression(const PaperInner& shown, const PaperInner& own,
                                     const PaperInner& negative, const Tensor& y, bool dropped, double s,
                                     double r, const method::Stage1Options& options) {
  PaperSample1 out;
  out.y = y;
  out.y_s = (1 - s) * y + s * shown.y_1;
  out.v = shown.y_1 - y;
  const double w = options.cfg, kappa = options.cfg_mix;
  const Tensor v_negative = paper_u(negative, out.y_s, one(s), one(s)).detach(),
               v_own = paper_u(own, out.y_s, one(s), one(s)).detach();
  out.v_guided = dropped ? out.v : w * out.v + kappa * v_own + (1 - w - kappa) * v_negative;
  out.tangent = out.v_guided;
  if (options.tangent == method::Tangent::kPlain) out.tangent = out.v;
  if (options.tangent == method::Tangent::kPredicted)
    out.tangent = paper_u(shown, out.y_s, one(s), one(s)).detach();
  const PaperFunction f = [&](const Tensor& at_y, const Tensor& at_s) {
    return paper_u(shown, at_y, at_s, one(r));
  };
  if (s == r)
    out.du = at::zeros_like(y);
  else if (options.derivative == method::Derivative::kExact)
    out.du = paper_exact(f, out.y_s, out.tangent, s);
  else
    out.du = paper_difference(f, out.y_s, out.tangent, s, r, options.delta, options.derivative_low);
  out.u = paper_u(shown, out.y_s, one(s), one(r));
  out.u_hat = (out.v_guided - (s - r) * out.du).detach();  // Eq. 10
  return out;
}

/// TM-MF, or MeanFlow of the outer flow. w: a leaf of kStudentWeights.
inline PaperStage1 paper_stage1(const Tensor& w, const Stage1Inputs& in, const method::Stage1Options& options,
                                bool mean_flow = false) {
  std::vector<Tensor> S, loss, x_t, y_s, h, target, y_guided, tangent, derivative;
  std::vector<double> times, ss, rs;
  for (int64_t b = 0; b < in.x.size(0); ++b) {
    const Tensor x = row(in.x, b), x_1 = row(in.draws.x_1, b), own_text = row(in.text, b);
    const bool dropped = in.draws.drop_condition[b].item<bool>();
    const auto [s, r] = paper_times(in, b, options);
    const double t = mean_flow ? s : options.grid_t[in.draws.outer_index[b].item<int64_t>()];
    const Tensor y_1 = mean_flow ? x_1 : row(in.draws.y_1, b), x_at_t = (1 - t) * x + t * x_1;
    method::InnerForm form = options.form;
    if (mean_flow) form = {method::InnerTarget::kVelocity, method::HeadOutput::kAverageVelocity};
    const Tensor y = mean_flow || form.target == method::InnerTarget::kClean ? x : x_1 - x;
    const auto flow = [&, time = t](const Tensor& text) {
      auto m = mean_flow ? PaperMeanFlowStudent::mean_flow_feature(w, x, text)
                         : student_backbone(w, x_at_t, one(time), text);
      return PaperInner{w, form, m, x_at_t, y_1, time};
    };
    PaperInner shown = flow(dropped ? in.negative : own_text);
    if (options.detach_features && !mean_flow) shown.m.tokens = shown.m.tokens.detach();
    const PaperSample1 p =
        paper_regression(shown, flow(own_text), flow(in.negative), y, dropped, s, r, options);
    S.push_back((p.u - p.u_hat).square().sum().view({1}));
    loss.push_back(S.back() / (S.back().detach() + options.loss_c));
    times.push_back(t);
    ss.push_back(s);
    rs.push_back(r);
    x_t.push_back(x_at_t);
    y_s.push_back(p.y_s);
    h.push_back(y_1 - p.u);
    target.push_back(y_1 - p.u_hat);
    y_guided.push_back(y_1 - p.v_guided);
    tangent.push_back(p.tangent);
    derivative.push_back(-p.du);
  }
  return {at::cat(S),
          at::cat(loss),
          at::tensor(times, at::kDouble),
          at::tensor(ss, at::kDouble),
          at::tensor(rs, at::kDouble),
          at::cat(x_t),
          at::cat(y_s),
          at::cat(h),
          at::cat(target),
          at::cat(y_guided),
          at::cat(tangent),
          at::cat(derivative)};
}

/// Nine samples. On the grid 0, 0.908, 0.999 their s is 0.574, 0.765 (flow matching), 0.953, 0.694 (text
/// dropped), 0.999 (clamped, so r = s), 0.9088 (forward difference only: s - delta < r), 0.9985 (backward
/// only), 0.0033 (forward only: s - delta < 0), 0.851 (flow matching, text dropped).
inline Stage1Inputs stage1_inputs() {
  at::manual_seed(3);
  Stage1Inputs in;
  in.x = normal({9, 2, 2, 2, 2});
  in.text = normal({9, 2, 3});
  in.negative = normal({1, 2, 3});
  in.draws = {
      .x_1 = normal({9, 2, 2, 2, 2}),
      .y_1 = normal({9, 2, 2, 2, 2}),
      .outer_index = at::tensor({1, 2, 2, 1, 2, 1, 1, 2, 1}, at::kLong),
      .s_uniform = at::tensor({0.31, 0.52, 0.87, 0.43, 0.9983, 0.7685, 0.9955, 0.0011, 0.655}, at::kDouble),
      .flow_matching = at::tensor({0, 1, 0, 0, 0, 0, 0, 0, 1}, at::kLong).to(at::kBool),
      .drop_condition = at::tensor({0, 0, 0, 1, 0, 0, 0, 0, 1}, at::kLong).to(at::kBool),
      .r_uniform = at::tensor({0.12, 0.44, 0.95, 0.29, 0.61, 0.7683, 0.02, 0.5, 0.3}, at::kDouble)};
  return in;
}

inline Stage1Inputs in_type(const Stage1Inputs& in, at::ScalarType type) {
  Stage1Inputs out = in;
  for (Tensor* latent : {&out.x, &out.text, &out.negative, &out.draws.x_1, &out.draws.y_1})
    *latent = latent->to(type);
  return out;
}

}  // namespace tmd::test
