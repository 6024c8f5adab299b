#include "method/flow.h"

#include <ATen/ATen.h>

namespace tmd::method {

double shift(double u, double g) { return g * u / ((g - 1) * u + 1); }

at::Tensor shift(const at::Tensor& u, double g) { return g * u / ((g - 1) * u + 1); }

at::Tensor over_latent(const at::Tensor& time) { return time.view({-1, 1, 1, 1, 1}); }

at::Tensor over_latent(const at::Tensor& time, const at::Tensor& latent) {
  return over_latent(time.to(latent.device()));
}

at::Tensor interpolate(const at::Tensor& data, const at::Tensor& noise, const at::Tensor& t) {
  const at::Tensor w = over_latent(t, data);
  return ((1 - w) * data.to(at::kDouble) + w * noise.to(at::kDouble)).to(data.scalar_type());
}

at::Tensor clean_of(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& velocity) {
  return (x_t.to(at::kDouble) - over_latent(t, x_t) * velocity.to(at::kDouble)).to(x_t.scalar_type());
}

at::Tensor guide(const at::Tensor& conditional, const at::Tensor& negative, double scale) {
  return negative + scale * (conditional - negative);
}

at::Tensor shifted_time(const at::Tensor& u, double g, double low, double high) {
  return shift(u, g).clamp(low, high);
}

}  // namespace tmd::method
