#include "method/stage1.h"

#include <ATen/ATen.h>

#include "method/flow.h"

namespace tmd::method {
namespace {

using MainFeature = StudentNetwork::MainFeature;

// Rows are chosen on the host, whatever they are taken of.
at::Tensor pick(const at::Tensor& x, const at::Tensor& rows) {
  return x.index_select(0, rows.to(x.device()));
}

at::Tensor outer_times(const at::Tensor& index, const std::vector<double>& grid_t) {
  return at::tensor(grid_t, at::kDouble).index_select(0, index);
}

// y guided by the student's own negative-prompt prediction (TMD App. A.2); dropped samples keep y.
at::Tensor guided_target(StudentNetwork& student, const at::Tensor& y, const Stage1Result& at_s,
                         const at::Tensor& negative_text, const at::Tensor& drop, double cfg) {
  const at::NoGradGuard no_grad;
  const MainFeature m =
      student.backbone(at_s.x_t, at_s.t, negative_text.expand({y.size(0), -1, -1}).contiguous());
  const at::Tensor head = student.head(at_s.y_s, at_s.s, at_s.s, m);
  return at::where(over_latent(drop, y), y, guide(y, head, cfg));
}

// Total derivative of the head along the inner path by finite differences, both sides where allowed.
at::Tensor derivative_of_head(StudentNetwork& student, const Stage1Result& at_s, const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  const MainFeature m = {pick(at_s.m.tokens.detach(), rows), pick(at_s.m.context.detach(), rows)};
  const at::Tensor s = pick(at_s.s, rows), r = pick(at_s.r, rows);
  const at::Tensor y_s = pick(at_s.y_s, rows), v = pick(at_s.tangent, rows);
  const auto head_at = [&](const at::Tensor& step) {
    const at::Tensor y =
        (y_s.to(at::kDouble) + over_latent(step, v) * v.to(at::kDouble)).to(y_s.scalar_type());
    return student.head(y, s + step, r, m).to(at::kDouble);
  };
  const at::Tensor plus = pick(at_s.difference.plus, rows), minus = -pick(at_s.difference.minus, rows);
  const at::Tensor width = over_latent(plus - minus, y_s);
  const at::Tensor difference = head_at(plus) - head_at(minus);
  return at::where(width > 0, difference / width.clamp_min(1e-300), at::zeros_like(difference))
      .to(y_s.scalar_type());
}

// Which samples need the derivative on this rank. When another rank needs it, this one takes part with one
// sample, so that all make the same network calls.
at::Tensor derivative(StudentNetwork& student, const Stage1Result& at_s,
                      const std::function<bool(bool)>& anywhere) {
  at::Tensor rows = at::nonzero(at_s.s > at_s.r).flatten();  // elsewhere its weight s - r is zero
  at::Tensor all = at::zeros_like(at_s.y_s);
  if (!anywhere(rows.numel() > 0)) return all;
  const bool dummy = rows.numel() == 0;
  if (dummy) rows = at::zeros({1}, at::kLong);
  const at::Tensor values = derivative_of_head(student, at_s, rows);
  if (!dummy) all.index_copy_(0, rows.to(all.device()), values);
  return all;
}

}  // namespace

DifferenceSteps difference_steps(const at::Tensor& s, const at::Tensor& r, const Stage1Options& options) {
  const at::Tensor none = at::zeros_like(s), step = at::full_like(s, options.delta);
  const at::Tensor backward = s - options.delta;
  return {at::where(s + options.delta <= options.s_high, step, none),
          at::where((backward >= options.derivative_low).logical_and(backward > r), step, none)};
}

at::Tensor snap_down(const at::Tensor& s, const std::vector<double>& grid_s) {
  at::Tensor r = at::zeros_like(s);
  for (double point : grid_s) r = at::where(s >= point, at::full_like(s, point), r);
  return r;
}

Stage1Result stage1(StudentNetwork& student, const at::Tensor& x, const at::Tensor& text,
                    const at::Tensor& negative_text, const Stage1Draws& draws, const Stage1Options& options,
                    const std::function<bool(bool)>& anywhere) {
  Stage1Result result;
  result.t = outer_times(draws.outer_index, options.grid_t);
  result.x_t = interpolate(x, draws.x_1, result.t);
  result.s = shifted_time(draws.s_uniform, options.s_shift, options.s_low, options.s_high);
  const bool always_flow_matching = options.objective == Stage1Objective::kTm;
  result.r = always_flow_matching
                 ? result.s
                 : at::where(draws.flow_matching, result.s, snap_down(result.s, options.grid_s));
  const at::Tensor y = draws.x_1 - x;  // TMD Eq. 3
  result.y_s = interpolate(y, draws.y_1, result.s);

  result.y_guided = options.cfg == 1
                        ? y
                        : guided_target(student, y, result, negative_text, draws.drop_condition, options.cfg);
  result.tangent = draws.y_1 - (options.tangent == Tangent::kGuided ? result.y_guided : y);

  const at::Tensor shown_text =
      at::where(draws.drop_condition.view({-1, 1, 1}).to(text.device()), negative_text, text);
  result.m = student.backbone(result.x_t, result.t, shown_text);
  const at::Tensor head = student.head(result.y_s, result.s, result.r, result.m);
  result.head = head.detach();

  result.difference = difference_steps(result.s, result.r, options);
  result.derivative = derivative(student, result, anywhere);
  const at::Tensor step = over_latent(result.s - result.r, head);
  result.target =
      (result.y_guided.to(at::kDouble) - step * result.derivative.to(at::kDouble)).to(head.scalar_type());
  result.S = (head.to(at::kDouble) - result.target.to(at::kDouble)).square().flatten(1).sum(1);
  result.loss = result.S / (result.S + options.loss_c).detach();
  return result;
}

}  // namespace tmd::method
