#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "method/derivative.h"
#include "method/inner_flow.h"
#include "method/networks.h"

namespace tmd::method {

enum class Stage1Objective { kTmMf, kTm };   ///< MeanFlow, or plain transition matching (r = s always)
enum class Interval { kGrid, kContinuous };  ///< r from the inner grid, or any r below s as MeanFlow draws it
enum class Derivative { kDifference, kExact };       ///< finite difference, or a Jacobian-vector product
enum class Tangent { kGuided, kPlain, kPredicted };  ///< y_1 - y_guided, y_1 - y, or y_1 - h(y_s, s, s)

struct Stage1Options {
  Stage1Objective objective = Stage1Objective::kTmMf;
  InnerForm form;
  std::vector<double> grid_t = {0, 0.908, 0.999};  ///< outer grid, t_0 = 0
  std::vector<double> grid_s = {0, 0.908, 0.999};  ///< inner grid, s_0 = 0
  Interval interval = Interval::kGrid;
  double s_shift = 3;                                  ///< s = clamp(shift(U; s_shift))
  double s_low = 0.001, s_high = 0.999;                ///< range of the uniform number, and clamp of s
  double derivative_low = 0, derivative_high = 0.999;  ///< t_min and t_max of the side rule
  double delta = 5e-3;                                 ///< step of the finite difference
  Derivative derivative = Derivative::kDifference;
  double cfg = 3;      ///< w, guidance of the target (TMD App. A.2); 1 = none
  double cfg_mix = 0;  ///< kappa, share of the conditional prediction in the guidance (MeanFlow Eq. 20)
  double loss_c = 0;   ///< c of S / (S + c); the field's value is c_per_element * d
  Tangent tangent = Tangent::kGuided;
  bool detach_features = false;  ///< the head's loss does not reach the backbone through m; c and
                                 ///< what the head shares with it are inputs of its own
};

/// Random numbers of a step, one row per sample.
struct Stage1Draws {
  at::Tensor x_1, y_1;        ///< Z, N(0, 1)
  at::Tensor outer_index;     ///< [B] int64, i in 1 .. M
  at::Tensor s_uniform;       ///< [B] float64, uniform in [s_low, s_high), before shift and clamp
  at::Tensor flow_matching;   ///< [B] bool, r = s
  at::Tensor drop_condition;  ///< [B] bool, text replaced by the negative prompt
  at::Tensor r_uniform = {};  ///< as s_uniform, of the other end; only for a continuous interval
};

/// Largest grid point that is at most s, per sample: r on the inner grid 0 = s_0 < ... < s_N (TMD App. A.2).
/// [B] float64 -> [B] float64.
at::Tensor snap_down(const at::Tensor& s, const std::vector<double>& grid_s);

struct Stage1Result {
  at::Tensor S;     ///< [B] float64 with gradient, squared error summed over the d elements
  at::Tensor loss;  ///< [B] float64 with gradient, S / sg(S + c)
  /// Without gradient. t, s, r [B] float64, the others Z. `head` is h of InnerFlow; `derivative`, d/ds h, is
  /// zero where r = s or neither side of the difference is allowed, and never undefined.
  at::Tensor t, s, r, x_t, y_1, y_s, y_guided, tangent, derivative, head, target;
  StudentNetwork::MainFeature m;  ///< of x_t and the text that was shown, with gradient
  DifferenceSteps difference;
};

/// TM-MF (TMD Sec. 3.1, Eq. 8 to 10 and 14) in h = y_1 - u (InnerFlow), from which y_1 drops out in the
/// default form:
///   target = sg(y_g - (s - r) d/ds h),  S = |h - target|^2,  loss = S / sg(S + c)
///   y_g = h_neg + w (y - h_neg) + kappa (h_cond - h_neg)
/// with the student's own predictions h_neg (negative prompt) and h_cond at r = s; y_g is y for samples whose
/// text was dropped (TMD App. A.2; kappa: MeanFlow, arXiv 2505.13447, Eq. 20).
/// x [B,C,T,H,W] data with B >= 1, text [B,S,E], negative_text [1,S,E].
/// `anywhere(flag)`: whether any rank has the flag, called once; passes that no rank needs are skipped by
/// all, and the number of network calls is the same on every rank. In one process: the identity.
/// Collective over: the ranks that the student is cut over, and those of `anywhere`.
Stage1Result stage1(StudentNetwork& student, const at::Tensor& x, const at::Tensor& text,
                    const at::Tensor& negative_text, const Stage1Draws& draws, const Stage1Options& options,
                    const std::function<bool(bool)>& anywhere);

/// MeanFlow of the outer flow (arXiv 2505.13447), the baseline: the same regression with y = x, y_1 = x_1 and
/// head = u(x_t, t, r; c) itself, which its student's backbone does not come between; s and r stand for t and
/// r, `options.grid_s` is the sampler's grid, `options.form`, `grid_t` and `detach_features` are not used.
Stage1Result mean_flow(StudentNetwork& student, const at::Tensor& x, const at::Tensor& text,
                       const at::Tensor& negative_text, const Stage1Draws& draws,
                       const Stage1Options& options, const std::function<bool(bool)>& anywhere);

}  // namespace tmd::method
