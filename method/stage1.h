#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "method/networks.h"

namespace tmd::method {

enum class Stage1Objective { kTmMf, kTm };  ///< MeanFlow, or plain transition matching (r = s always)
enum class Tangent { kGuided, kPlain };     ///< of the finite difference: y_1 - y_guided, or y_1 - y

struct Stage1Options {
  Stage1Objective objective = Stage1Objective::kTmMf;
  std::vector<double> grid_t = {0, 0.908, 0.999};  ///< outer grid, t_0 = 0
  std::vector<double> grid_s = {0, 0.908, 0.999};  ///< inner grid, s_0 = 0
  double s_shift = 3;                              ///< s = clamp(shift(U; s_shift))
  double s_low = 0.001, s_high = 0.999;            ///< range of the uniform number, and clamp of s
  double derivative_low = 0;                       ///< t_min of the finite difference's side rule
  double delta = 5e-3;                             ///< step of the finite difference
  double cfg = 3;                                  ///< guidance of the target (TMD App. A.2); 1 = none
  double loss_c = 0;  ///< c of S / (S + c); the field's value is c_per_element * d
  Tangent tangent = Tangent::kGuided;
};

/// Random numbers of a step, one row per sample.
struct Stage1Draws {
  at::Tensor x_1, y_1;        ///< Z, N(0, 1)
  at::Tensor outer_index;     ///< [B] int64, i in 1 .. M
  at::Tensor s_uniform;       ///< [B] float64, uniform in [s_low, s_high), before shift and clamp
  at::Tensor flow_matching;   ///< [B] bool, r = s
  at::Tensor drop_condition;  ///< [B] bool, text replaced by the negative prompt
};

/// Sides of the finite difference that a sample may use: head at s + plus and s - minus; 0 = not allowed.
struct DifferenceSteps {
  at::Tensor plus, minus;  ///< [B] float64, 0 or delta
};
/// Forward allowed if s + delta <= s_high, backward if s - delta >= derivative_low and s - delta > r
/// (TMD App. A.2; the side rules are FastGen's). s, r [B] float64.
DifferenceSteps difference_steps(const at::Tensor& s, const at::Tensor& r, const Stage1Options& options);

/// Largest grid point that is at most s, per sample: r on the inner grid 0 = s_0 < ... < s_N (TMD App. A.2).
/// [B] float64 -> [B] float64.
at::Tensor snap_down(const at::Tensor& s, const std::vector<double>& grid_s);

struct Stage1Result {
  at::Tensor S;     ///< [B] float64 with gradient, squared error summed over the d elements
  at::Tensor loss;  ///< [B] float64 with gradient, S / sg(S + c)
  /// Without gradient. t, s, r [B] float64, the others Z. `derivative`, d/ds head, is zero where r = s or
  /// neither side of the difference is allowed, and never undefined.
  at::Tensor t, s, r, x_t, y_s, y_guided, tangent, derivative, head, target;
  StudentNetwork::MainFeature m;  ///< of x_t and the text that was shown, with gradient
  DifferenceSteps difference;
};

/// TM-MF (TMD Sec. 3.1, Eq. 8 to 10 and 14) in the form from which y_1 has dropped out:
///   target = sg(y_g - (s - r) d/ds head),  S = |head - target|^2,  loss = S / sg(S + c)
/// x [B,C,T,H,W] data with B >= 1, text [B,S,E], negative_text [1,S,E]. y_g is y for samples whose text was
/// dropped, else y guided by the student's own negative-prompt prediction (TMD App. A.2).
/// `anywhere(flag)`: whether any rank has the flag, called once; passes that no rank needs are skipped by
/// all, and the number of network calls is the same on every rank. In one process: the identity.
/// Collective over: the ranks that the student is cut over, and those of `anywhere`.
Stage1Result stage1(StudentNetwork& student, const at::Tensor& x, const at::Tensor& text,
                    const at::Tensor& negative_text, const Stage1Draws& draws, const Stage1Options& options,
                    const std::function<bool(bool)>& anywhere);

}  // namespace tmd::method
