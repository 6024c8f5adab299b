#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

/// Number of features of a latent, whatever its shape.
inline constexpr int64_t kLatentFeatures = 32;

/// A feature space for latents of any data set that needs no trained network. `latents` [N, C, T, H, W],
/// normalised, N >= 1 -> [N, 32] float64:
///   20 of the layout: what is where, coarsely. Each channel is averaged over min(T, 2) x min(H, 4) x
///      min(W, 4) cells of the clip, and all of these numbers are projected on 20 fixed random unit vectors;
///   12 of the texture: 4 fixed random unit mixtures of the channels, and of each the root mean square of its
///      deviation from its mean (contrast), of its change from frame to frame (motion; 0 for one frame), and
///      of its change from place to place (edges; 0 for one place).
/// The vectors are functions of the shape alone (Purpose::kEvaluation, seed 0), so numbers of different runs
/// are in one space. Why so few: a Fréchet distance estimates 32 means and 528 covariances, which takes some
/// hundreds of samples. Why random vectors: the main directions of the data would be fitted to the reference
/// and make it look wider than new data from the same source.
/// Throws kInternal for another number of dimensions; see point_set for bad values.
at::Tensor latent_features(const at::Tensor& latents);

/// Smallest scale of each feature (fit_feature_scale): 0.05 of a standard deviation of the data set.
std::vector<double> latent_feature_smallest_scales();

}  // namespace tmd::evaluation
