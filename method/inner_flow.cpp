#include "method/inner_flow.h"

#include <ATen/ATen.h>

#include "method/flow.h"

namespace tmd::method {

at::Tensor inner_target(const InnerForm& form, const at::Tensor& x, const at::Tensor& x_1) {
  return form.target == InnerTarget::kVelocity ? x_1 - x : x;
}

at::Tensor outer_velocity_of(const InnerForm& form, const at::Tensor& y, const at::Tensor& x_t,
                             const at::Tensor& t) {
  if (form.target == InnerTarget::kVelocity) return y;
  const at::Tensor wide = (x_t.to(at::kDouble) - y.to(at::kDouble)) / over_latent(t, y);
  return wide.to(y.scalar_type());
}

at::Tensor InnerFlow::operator()(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r) const {
  const at::Tensor head = student.head(y_s, s, r, m);
  if (form.output == HeadOutput::kAverageVelocity) return y_1 - head;
  if (form.target == InnerTarget::kVelocity) return head;
  const at::Tensor clean = x_t.to(at::kDouble) - over_latent(t, head) * head.to(at::kDouble);
  const at::Tensor u = (y_s.to(at::kDouble) - clean) / over_latent(s, head);
  return (y_1.to(at::kDouble) - u).to(head.scalar_type());
}

at::Tensor roll_out(const InnerFlow& flow, const std::vector<double>& grid_s, InnerVelocity velocity,
                    InnerTrace* trace) {
  const at::Tensor& y_1 = flow.y_1;
  const auto batch_of = [&y_1](double value) { return at::full({y_1.size(0)}, value, at::kDouble); };
  const bool is_instantaneous = velocity == InnerVelocity::kInstantaneous;
  at::Tensor y = y_1;
  for (size_t j = grid_s.size() - 1; j >= 1; --j) {
    const double step = grid_s[j] - grid_s[j - 1];
    const at::Tensor h = flow(y, batch_of(grid_s[j]), batch_of(grid_s[is_instantaneous ? j : j - 1]));
    y = is_instantaneous && flow.form == InnerForm{} ? y - step / grid_s[j] * (y - h) : y - step * (y_1 - h);
    if (trace) {
      trace->heads.push_back(h.detach());
      trace->states.push_back(y.detach());
    }
  }
  return y;
}

}  // namespace tmd::method
