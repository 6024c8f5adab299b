#include "evaluation/latent_features.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/philox.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {
namespace {

constexpr uint64_t kLayoutStream = 2, kMixtureStream = 3;  // 0 and 1: sliced_wasserstein.cpp, bootstrap.cpp
constexpr int64_t kLayouts = 20, kMixtures = 4;
constexpr int64_t kChunk = 16;  // latents that are converted at a time
static_assert(kLayouts + 3 * kMixtures == kLatentFeatures);

// [count, dimensions] unit vectors.
at::Tensor unit_vectors(uint64_t stream, int64_t count, int64_t dimensions) {
  at::Tensor vectors = at::empty({count, dimensions}, at::kDouble);
  double* row = vectors.mutable_data_ptr<double>();
  for (int64_t k = 0; k < count; ++k, row += dimensions) {
    PhiloxStream(0, stream, static_cast<uint64_t>(k), Purpose::kEvaluation)
        .fill_normal(std::span<double>(row, static_cast<size_t>(dimensions)));
  }
  return vectors / vectors.norm(2, {1}, /*keepdim=*/true);
}

at::Tensor layout_of(const at::Tensor& latents) {  // [n, 20]
  const auto cells = [&](int64_t dim, int64_t most) { return std::min(latents.size(dim), most); };
  const at::Tensor pooled =
      at::adaptive_avg_pool3d(latents, {cells(2, 2), cells(3, 4), cells(4, 4)}).flatten(1);
  return pooled.matmul(unit_vectors(kLayoutStream, kLayouts, pooled.size(1)).t());
}

// [n, 4] root mean square of [n, 4, ...]; zeros for no values.
at::Tensor root_mean_square(const at::Tensor& values) {
  if (values.numel() == 0) return at::zeros({values.size(0), values.size(1)}, at::kDouble);
  return values.flatten(2).square().mean(2).sqrt();
}

at::Tensor texture_of(const at::Tensor& latents) {  // [n, 12]
  const at::Tensor mixtures = unit_vectors(kMixtureStream, kMixtures, latents.size(1));
  const at::Tensor mixed = mixtures.matmul(latents.flatten(2))
                               .view({latents.size(0), kMixtures, latents.size(2), latents.size(3),
                                      latents.size(4)});  // [n, 4, T, H, W]
  const at::Tensor edges = at::cat({mixed.diff(1, 3).flatten(2), mixed.diff(1, 4).flatten(2)}, 2);
  return at::cat({root_mean_square(mixed - mixed.mean({2, 3, 4}, /*keepdim=*/true)),
                  root_mean_square(mixed.diff(1, 2)), root_mean_square(edges)},
                 1);
}

}  // namespace

at::Tensor latent_features(const at::Tensor& latents) {
  ensure(latents.dim() == 5, "latents are [N, C, T, H, W]");
  std::vector<at::Tensor> features;
  for (int64_t begin = 0; begin < latents.size(0); begin += kChunk) {
    const at::Tensor chunk = latents.narrow(0, begin, std::min(kChunk, latents.size(0) - begin));
    const at::Tensor numbers = point_set(chunk, "latents").view(chunk.sizes());
    features.push_back(at::cat({layout_of(numbers), texture_of(numbers)}, 1));
  }
  return at::cat(features);
}

std::vector<double> latent_feature_smallest_scales() { return std::vector<double>(kLatentFeatures, 0.05); }

}  // namespace tmd::evaluation
