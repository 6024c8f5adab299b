#include "method/generator.h"

#include <ATen/ATen.h>

namespace tmd::method {

at::Tensor inner_flow(StudentNetwork& student, const StudentNetwork::MainFeature& m, const at::Tensor& y_1,
                      const std::vector<double>& grid_s, InnerVelocity velocity, InnerTrace* trace) {
  const auto batch_of = [&y_1](double value) { return at::full({y_1.size(0)}, value, at::kDouble); };
  at::Tensor y = y_1;
  for (size_t j = grid_s.size() - 1; j >= 1; --j) {
    const double step = grid_s[j] - grid_s[j - 1];
    at::Tensor head;
    if (velocity == InnerVelocity::kAverage) {
      head = student.head(y, batch_of(grid_s[j]), batch_of(grid_s[j - 1]), m);
      y = y - step * (y_1 - head);
    } else {
      head = student.head(y, batch_of(grid_s[j]), batch_of(grid_s[j]), m);
      y = y - step / grid_s[j] * (y - head);
    }
    if (trace) {
      trace->heads.push_back(head.detach());
      trace->states.push_back(y.detach());
    }
  }
  return y;
}

at::Tensor TmdGenerator::outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                                        const at::Tensor& y_1) {
  return inner_flow(student_, student_.backbone(x_t, t, text), y_1, grid_s_, velocity_, trace_);
}

at::Tensor VelocityGenerator::outer_velocity(const at::Tensor& x_t, const at::Tensor& t,
                                             const at::Tensor& text, const at::Tensor& y_1) {
  (void)y_1;
  return network_.velocity(x_t, t, text);
}

}  // namespace tmd::method
