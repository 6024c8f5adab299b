#pragma once

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

/// Normal distribution with the mean and the covariance (divisor N - 1) of a feature set.
struct GaussianFit {
  at::Tensor mean;        // [D] float64
  at::Tensor covariance;  // [D, D] float64, symmetric
};

/// `features`: [N, D], N >= 2 (kInternal otherwise); see point_set for bad values.
GaussianFit fit_gaussian(const at::Tensor& features);

/// Fréchet distance of two normal distributions, squared as the FID is (Heusel et al. 2017, Eq. 6):
///   |m_a - m_b|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2, never negative.
/// The last trace is computed as the sum of singular values of A^1/2 B^1/2, which keeps the full precision of
/// small ones; singular covariances are legal. Throws kInternal when D differs.
double frechet_distance(const GaussianFit& a, const GaussianFit& b);
/// Of the fits of two feature sets [N, D] and [M, D]; throws as fit_gaussian too.
double frechet_distance(const at::Tensor& features_a, const at::Tensor& features_b);

}  // namespace tmd::evaluation
