#include "method/teacher.h"

#include <ATen/ATen.h>

#include "method/flow.h"

namespace tmd::method {

TeacherResult teacher_step(VelocityNetwork& network, const at::Tensor& x, const at::Tensor& text,
                           const at::Tensor& negative_text, const TeacherDraws& draws,
                           const TeacherOptions& options) {
  const at::Tensor t = shifted_time(draws.t_uniform, options.time_shift, options.t_low, options.t_high);
  const at::Tensor shown_text =
      at::where(draws.drop_condition.view({-1, 1, 1}).to(text.device()), negative_text, text);
  const at::Tensor v = network.velocity(interpolate(x, draws.noise, t), t, shown_text);
  return {(v - (draws.noise - x)).to(at::kDouble).square().flatten(1).mean(1), t};
}

}  // namespace tmd::method
