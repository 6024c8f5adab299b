#include "evaluation/feature_scale.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {

at::Tensor FeatureScale::apply(const at::Tensor& features) const {
  return (point_set(features, "features") - mean) / scale;
}

FeatureScale fit_feature_scale(const at::Tensor& real, std::span<const double> smallest) {
  const at::Tensor points = point_set(real, "features of the real set");
  ensure(points.size(0) >= 2, "a standard deviation needs two samples");
  ensure(points.size(1) == static_cast<int64_t>(smallest.size()), "one smallest scale for each feature");
  at::Tensor scale = points.std(0);  // [D]
  for (int64_t d = 0; d < points.size(1); ++d) {
    ensure(smallest[d] > 0, "the smallest scale is positive");
    scale[d].clamp_min_(smallest[d]);
  }
  return {points.mean(0), scale};
}

}  // namespace tmd::evaluation
