#include "evaluation/coverage.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kRowsPerBlock = 512;
constexpr int64_t kDirectDistances = 2;  // cdist without the matrix product, which loses half of the digits

// [rows, M] distances of rows [begin, begin + rows) of `points` to `others`.
at::Tensor block_distances(const at::Tensor& points, int64_t begin, const at::Tensor& others) {
  const int64_t rows = std::min(kRowsPerBlock, points.size(0) - begin);
  return at::cdist(points.narrow(0, begin, rows), others, 2.0, kDirectDistances);
}

// [N] distance of each point to its k-th nearest other point.
at::Tensor ball_radii(const at::Tensor& points, int64_t k) {
  std::vector<at::Tensor> blocks;
  for (int64_t begin = 0; begin < points.size(0); begin += kRowsPerBlock) {
    // Rank 1 is the point itself at distance 0.
    blocks.push_back(std::get<0>(block_distances(points, begin, points).kthvalue(k + 1, 1)));
  }
  return at::cat(blocks);
}

}  // namespace

NeighbourShares neighbour_shares(const at::Tensor& real, const at::Tensor& generated, int64_t k) {
  const at::Tensor points = point_set(real, "real features");
  const at::Tensor samples = point_set(generated, "features of the samples");
  ensure(points.size(1) == samples.size(1), "both feature sets have the same dimensions");
  ensure(k >= 1 && points.size(0) > k, "more real points than neighbours");
  const at::Tensor radii = ball_radii(points, k);
  at::Tensor is_inside = at::zeros({samples.size(0)}, at::kBool);
  int64_t covered = 0;
  for (int64_t begin = 0; begin < points.size(0); begin += kRowsPerBlock) {
    const at::Tensor distances = block_distances(points, begin, samples);  // [rows, M]
    const at::Tensor hits = distances <= radii.narrow(0, begin, distances.size(0)).unsqueeze(1);
    covered += hits.any(1).sum().item<int64_t>();
    is_inside.logical_or_(hits.any(0));
  }
  const at::Tensor inside = is_inside.to(at::kDouble);
  const double* begin = inside.const_data_ptr<double>();
  return {static_cast<double>(covered) / static_cast<double>(points.size(0)),
          inside.mean().item<double>(),
          {begin, begin + inside.numel()}};
}

}  // namespace tmd::evaluation
