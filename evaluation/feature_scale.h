#pragma once

#include <span>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

/// Brings features of different units onto one scale, the one of the real set.
struct FeatureScale {
  at::Tensor mean;   // [D] float64, of the real set
  at::Tensor scale;  // [D] float64, > 0

  /// (features - mean) / scale of [N, D], float64; see point_set for bad values.
  at::Tensor apply(const at::Tensor& features) const;
};

/// Mean and standard deviation of `real` [N, D], N >= 2. A feature that hardly varies in the real set would
/// dominate every distance, so its scale is at least `smallest[d]` > 0: the difference in that feature that
/// is worth one standard deviation. Throws kInternal when the sizes disagree, N < 2 or a smallest scale is
/// not positive; see point_set for bad values.
FeatureScale fit_feature_scale(const at::Tensor& real, std::span<const double> smallest);

}  // namespace tmd::evaluation
