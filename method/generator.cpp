#include "method/generator.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::method {

at::Tensor Generator::without_rollout(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                      const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  throw Error(ErrorKind::kInternal, "a generator without a flow head has no rollout to leave out");
}

at::Tensor TmdGenerator::outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& next,
                                        const at::Tensor& text, const at::Tensor& y_1) {
  (void)next;
  const StudentNetwork::MainFeature m = student_.backbone(x_t, t, text);
  const at::Tensor y = roll_out({student_, form_, m, x_t, t, y_1}, grid_s_, velocity_, trace_);
  return outer_velocity_of(form_, y, x_t, t);
}

at::Tensor TmdGenerator::without_rollout(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                                         const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& y_1) {
  const StudentNetwork::MainFeature m = student_.backbone(x_t, t, text);
  const InnerFlow flow{student_, form_, m, x_t, t, y_1};
  const at::Tensor step = s.view({-1, 1, 1, 1, 1}).to(y_s.options());
  return outer_velocity_of(form_, y_s - step * (y_1 - flow(y_s, s, at::zeros_like(s))), x_t, t);
}

at::Tensor VelocityGenerator::outer_velocity(const at::Tensor& x_t, const at::Tensor& t,
                                             const at::Tensor& next, const at::Tensor& text,
                                             const at::Tensor& y_1) {
  (void)next, (void)y_1;
  return network_.velocity(x_t, t, text);
}

at::Tensor MeanFlowGenerator::outer_velocity(const at::Tensor& x_t, const at::Tensor& t,
                                             const at::Tensor& next, const at::Tensor& text,
                                             const at::Tensor& y_1) {
  (void)y_1;
  return student_.head(x_t, t, next, student_.backbone(x_t, t, text));
}

}  // namespace tmd::method
