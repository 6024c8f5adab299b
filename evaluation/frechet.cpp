#include "evaluation/frechet.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {
namespace {

at::Tensor symmetric_square_root(const at::Tensor& matrix) {
  const auto [values, vectors] = at::linalg_eigh(matrix, "L");
  // Rounding makes the eigenvalues of a singular covariance slightly negative.
  const at::Tensor roots = values.clamp_min(0).sqrt();
  return (vectors * roots.unsqueeze(0)).matmul(vectors.t());
}

}  // namespace

GaussianFit fit_gaussian(const at::Tensor& features) {
  const at::Tensor points = point_set(features, "features");
  ensure(points.size(0) >= 2, "a covariance needs two samples");
  const at::Tensor mean = points.mean(0), centred = points - mean;
  return {mean, centred.t().matmul(centred) / static_cast<double>(points.size(0) - 1)};
}

double frechet_distance(const GaussianFit& a, const GaussianFit& b) {
  ensure(a.mean.sizes() == b.mean.sizes(), "both feature sets have the same dimensions");
  const at::Tensor roots = symmetric_square_root(a.covariance).matmul(symmetric_square_root(b.covariance));
  const at::Tensor distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() -
                              2 * at::linalg_svdvals(roots).sum();
  return std::max(0.0, distance.item<double>());
}

double frechet_distance(const at::Tensor& features_a, const at::Tensor& features_b) {
  return frechet_distance(fit_gaussian(features_a), fit_gaussian(features_b));
}

}  // namespace tmd::evaluation
