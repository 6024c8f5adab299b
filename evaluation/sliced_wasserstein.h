#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

struct SlicedDistance {
  double w1 = 0;  ///< mean over directions of the 1-Wasserstein distance, unit of the points
  double w2 = 0;  ///< square root of the mean over directions of the squared 2-Wasserstein distance
};

/// Sliced Wasserstein distances of two point sets [N, D] and [M, D] (Bonneel et al. 2015): the points are
/// projected on `directions` unit vectors, uniform on the sphere and fixed by `seed`
/// (Purpose::kEvaluation), and compared in one dimension, where the optimal coupling is the sorted one.
/// Throws kInternal when D differs or `directions` < 1; see point_set for bad values.
SlicedDistance sliced_wasserstein(const at::Tensor& a, const at::Tensor& b, int64_t directions,
                                  uint64_t seed);

/// The same in one dimension for ascending values; unequal counts are coupled quantile by quantile.
/// `w2` is the 2-Wasserstein distance itself. Neither set is empty (not checked).
SlicedDistance sorted_wasserstein(std::span<const double> a, std::span<const double> b);

}  // namespace tmd::evaluation
