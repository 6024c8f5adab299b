#include "method/kd.h"

#include <ATen/ATen.h>

#include "method/flow.h"

namespace tmd::method {

KdResult kd_step(Generator& generator, const at::Tensor& x, const at::Tensor& x_1, const at::Tensor& text,
                 const at::Tensor& y_1, const KdOptions& options) {
  const at::Tensor t = at::full({x.size(0)}, options.t, at::kDouble);
  const at::Tensor x_t = (options.t * x_1.to(at::kDouble)).to(x.scalar_type());
  const at::Tensor y_hat = generator.outer_velocity(x_t, t, at::zeros_like(t), text, y_1);
  const at::Tensor x_hat = options.x_hat == XHat::kXtMinusTy ? clean_of(x_t, t, y_hat) : x_1 - y_hat;
  const at::Tensor error = (x_hat.to(at::kDouble) - x.to(at::kDouble)).square().flatten(1).mean(1);
  return {0.5 * error, x_hat.detach()};
}

}  // namespace tmd::method
