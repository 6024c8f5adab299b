#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

struct NeighbourShares {
  double coverage = 0;  ///< share of real points whose ball holds a generated point: falls with lost variety
  double precision =
      0;  ///< share of generated points that lie in the ball of a real point: falls with bad samples
  std::vector<double> inside;  // [M] 1 for each generated point that does, else 0
};

/// k-nearest-neighbour coverage (Naeem et al. 2020, Eq. 10) and precision (Kynkäänniemi et al. 2019, Eq. 2).
/// The ball of a real point reaches to its k-th nearest other real point.
/// `real`: [N, D], `generated`: [M, D] on a common scale (feature_scale.h). Throws kInternal when D differs,
/// k < 1 or N <= k; see point_set for bad values. Memory: blocks of 512 rows of the distance matrix.
NeighbourShares neighbour_shares(const at::Tensor& real, const at::Tensor& generated, int64_t k = 5);

}  // namespace tmd::evaluation
