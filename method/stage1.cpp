#include "method/stage1.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

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

// s and r of every sample.
void choose_interval(Stage1Result& at_s, const Stage1Draws& draws, const Stage1Options& options) {
  const auto time = [&](const at::Tensor& uniform) {
    return shifted_time(uniform, options.s_shift, options.s_low, options.s_high);
  };
  at_s.s = time(draws.s_uniform);
  at_s.r = at_s.s;
  if (options.objective == Stage1Objective::kTm) return;
  if (options.interval == Interval::kGrid) {
    at_s.r = at::where(draws.flow_matching, at_s.s, snap_down(at_s.s, options.grid_s));
    return;
  }
  const at::Tensor other = time(draws.r_uniform);
  const at::Tensor late = at::maximum(at_s.s, other), early = at::minimum(at_s.s, other);
  at_s.s = late;
  at_s.r = at::where(draws.flow_matching, late, early);
}

// What the passes of one step share.
struct Step {
  StudentNetwork& student;
  const InnerForm form;
  const Stage1Options& options;
  const at::Tensor& drop;  // [B] bool
};

// h(y_s, s, s; m) of a main feature, without gradient.
at::Tensor instantaneous(const Step& step, const Stage1Result& at_s, const MainFeature& m) {
  return InnerFlow{step.student, step.form, m, at_s.x_t, at_s.t, at_s.y_1}(at_s.y_s, at_s.s, at_s.s).detach();
}

MainFeature detached(const MainFeature& m) { return {m.tokens.detach(), m.context.detach()}; }

at::Tensor negative_estimate(const Step& step, const Stage1Result& at_s, const at::Tensor& negative_text) {
  const at::NoGradGuard no_grad;
  const int64_t batch = at_s.y_s.size(0);
  return instantaneous(
      step, at_s,
      step.student.backbone(at_s.x_t, at_s.t, negative_text.expand({batch, -1, -1}).contiguous()));
}

// y guided by the student's own predictions (TMD App. A.2); dropped samples keep y. `own`: h_cond.
at::Tensor guided_target(const Step& step, const at::Tensor& y, const at::Tensor& negative,
                         const at::Tensor& own) {
  at::Tensor guided = guide(y, negative, step.options.cfg);
  if (step.options.cfg_mix != 0) guided = guided + step.options.cfg_mix * (own - negative);
  return at::where(over_latent(step.drop, y), y, guided);
}

// Total derivative of h along the inner path for some rows.
at::Tensor derivative_of_rows(const Step& step, const Stage1Result& at_s, const at::Tensor& rows) {
  const MainFeature m = {pick(at_s.m.tokens.detach(), rows), pick(at_s.m.context.detach(), rows)};
  const at::Tensor x_t = pick(at_s.x_t, rows), t = pick(at_s.t, rows), y_1 = pick(at_s.y_1, rows);
  const at::Tensor y_s = pick(at_s.y_s, rows), v = pick(at_s.tangent, rows);
  const at::Tensor s = pick(at_s.s, rows), r = pick(at_s.r, rows);
  const InnerFlow flow{step.student, step.form, m, x_t, t, y_1};
  const AlongPath h = [&](const at::Tensor& y, const at::Tensor& time) { return flow(y, time, r); };
  if (step.options.derivative == Derivative::kExact) return exact_derivative(h, y_s, v, s);
  return finite_difference(h, y_s, v, s,
                           {pick(at_s.difference.plus, rows), pick(at_s.difference.minus, rows)});
}

// Which samples need the derivative on this rank. When another rank needs it, this one takes part with one
// sample, so that all make the same network calls.
at::Tensor derivative(const Step& step, const Stage1Result& at_s, const std::function<bool(bool)>& anywhere) {
  at::Tensor rows = at::nonzero(at_s.s > at_s.r).flatten();  // elsewhere its weight s - r is zero
  at::Tensor all = at::zeros_like(at_s.y_s);
  if (!anywhere(rows.numel() > 0)) return all;
  const bool dummy = rows.numel() == 0;
  if (dummy) rows = at::zeros({1}, at::kLong);
  const at::Tensor values = derivative_of_rows(step, at_s, rows);
  if (!dummy) all.index_copy_(0, rows.to(all.device()), values);
  return all;
}

// The regression of h at times s, r and states x_t, y_s, y_1 that are chosen.
void regress(const Step& step, const at::Tensor& y, const at::Tensor& text, const at::Tensor& negative_text,
             const std::function<bool(bool)>& anywhere, Stage1Result& result) {
  const Stage1Options& options = step.options;
  const bool is_guided = options.cfg != 1 || options.cfg_mix != 0;
  const at::Tensor negative = is_guided ? negative_estimate(step, result, negative_text) : at::Tensor();
  const at::Tensor shown_text = at::where(step.drop.view({-1, 1, 1}).to(text.device()), negative_text, text);
  result.m = step.student.backbone(result.x_t, result.t, shown_text);
  const MainFeature m =
      options.detach_features ? MainFeature{result.m.tokens.detach(), result.m.context} : result.m;
  at::Tensor own;
  if (options.cfg_mix != 0 || options.tangent == Tangent::kPredicted) {
    const at::NoGradGuard no_grad;
    own = instantaneous(step, result, detached(result.m));
  }
  result.y_guided = is_guided ? guided_target(step, y, negative, own) : y;
  const at::Tensor& ahead = options.tangent == Tangent::kGuided  ? result.y_guided
                            : options.tangent == Tangent::kPlain ? y
                                                                 : own;
  result.tangent = result.y_1 - ahead;

  const at::Tensor h =
      InnerFlow{step.student, step.form, m, result.x_t, result.t, result.y_1}(result.y_s, result.s, result.r);
  result.head = h.detach();
  result.difference =
      difference_steps(result.s, result.r, {options.delta, options.derivative_low, options.derivative_high});
  result.derivative = derivative(step, result, anywhere);
  const at::Tensor width = over_latent(result.s - result.r, h);
  result.target =
      (result.y_guided.to(at::kDouble) - width * result.derivative.to(at::kDouble)).to(h.scalar_type());
  result.S = (h.to(at::kDouble) - result.target.to(at::kDouble)).square().flatten(1).sum(1);
  result.loss = result.S / (result.S + options.loss_c).detach();
}

}  // namespace

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
  choose_interval(result, draws, options);
  const at::Tensor y = inner_target(options.form, x, draws.x_1);
  result.y_1 = draws.y_1;
  result.y_s = interpolate(y, draws.y_1, result.s);
  regress({student, options.form, options, draws.drop_condition}, y, text, negative_text, anywhere, result);
  return result;
}

Stage1Result mean_flow(StudentNetwork& student, const at::Tensor& x, const at::Tensor& text,
                       const at::Tensor& negative_text, const Stage1Draws& draws,
                       const Stage1Options& options, const std::function<bool(bool)>& anywhere) {
  Stage1Result result;
  choose_interval(result, draws, options);
  result.y_1 = draws.x_1;
  result.y_s = interpolate(x, draws.x_1, result.s);
  result.t = result.s;
  result.x_t = result.y_s;
  const InnerForm form{InnerTarget::kClean, HeadOutput::kAverageVelocity};
  Stage1Options own = options;
  own.detach_features = false;
  regress({student, form, own, draws.drop_condition}, x, text, negative_text, anywhere, result);
  return result;
}

}  // namespace tmd::method
