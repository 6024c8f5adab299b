#include "workers/sample_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::workers {
namespace {

constexpr int64_t kSpreadElements = 1024;

// Elements of a latent whose spread over the batch is looked at: every step-th one, with a step that meets
// all columns.
int64_t spread_step(int64_t elements, int64_t width) {
  int64_t step = std::max<int64_t>(1, (elements + kSpreadElements - 1) / kSpreadElements);
  while (std::gcd(step, width) != 1) ++step;
  return step;
}

// Sums of one side, in this order: [C] of values, [C] of squares, [1] temporal, [E] of chosen elements, [1]
// of their squares.
at::Tensor sums_of(const at::Tensor& latents) {
  const at::Tensor x = latents.to(at::kDouble), rows = x.flatten(1);
  const at::Tensor chosen = rows.slice(1, 0, rows.size(1), spread_step(rows.size(1), x.size(4)));
  const at::Tensor motion = x.diff(1, 2).square().sum();
  return at::cat({x.sum({0, 2, 3, 4}), x.square().sum({0, 2, 3, 4}), motion.view({1}), chosen.sum(0),
                  chosen.square().sum().view({1})});
}

// The same numbers of one side, read.
struct Side {
  Side(const at::Tensor& sums, int64_t samples, const std::vector<int64_t>& shape) {
    const int64_t channels = shape[0];
    const auto n = static_cast<double>(samples),
               per_channel = n * static_cast<double>(shape[1] * shape[2] * shape[3]);
    mean = sums.narrow(0, 0, channels) / per_channel;
    variance = (sums.narrow(0, channels, channels) / per_channel - mean.square()).clamp_min(0);
    motion = sums[2 * channels].item<double>();
    const at::Tensor chosen = sums.slice(0, 2 * channels + 1, sums.numel() - 1) / n;
    const double difference = sums[-1].item<double>() / n - chosen.square().sum().item<double>();
    spread = difference < 0 ? 0 : difference;  // what is no number stays so
  }
  at::Tensor mean, variance;  // [C]
  double motion = 0, spread = 0;
};

}  // namespace

at::Tensor sample_sums(const at::Tensor& x_hat, const at::Tensor& data) {
  return at::cat({sums_of(x_hat.detach()), sums_of(data.detach())});
}

std::map<std::string, double> sample_diagnostics(const at::Tensor& sums, int64_t samples,
                                                 const std::vector<int64_t>& latent_shape) {
  ensure(sums.numel() % 2 == 0 && latent_shape.size() == 4, "sums of samples and of data");
  const int64_t half = sums.numel() / 2;
  const Side x(sums.narrow(0, 0, half), samples, latent_shape),
      data(sums.narrow(0, half, half), samples, latent_shape);
  // A channel without variation in the data would divide by zero.
  const at::Tensor scale = data.variance.sqrt().clamp_min(1e-12);
  std::map<std::string, double> result = {
      {"mean_drift", ((x.mean - data.mean) / scale).abs().max().item<double>()},
      {"std_drift", (x.variance.sqrt() / scale - 1).abs().max().item<double>()},
      {"std_ratio", std::sqrt(x.variance.mean().item<double>() / scale.square().mean().item<double>())}};
  if (data.motion > 0) result["motion_ratio"] = x.motion / data.motion;
  if (samples > 1 && data.spread > 0) result["diversity_ratio"] = std::sqrt(x.spread / data.spread);
  return result;
}

}  // namespace tmd::workers
