#pragma once

#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace tmd::data {

/// Eight Gaussians on a ring: the smallest data on which a distilled sampler can lose modes.
struct ToyMixtureSpec {
  bool equal_weights = true;  ///< false: from 0.3 down to 0.03
};

inline constexpr int64_t kToyModes = 8;
inline constexpr double kToyRingRadius = 4;
inline constexpr double kToyModeStd = 0.2;
/// Latents are point / 3, so that their std is about 1 (0.95 for equal weights); files say latent_std = 3,
/// mean = 0.
inline constexpr double kToyMixtureScale = 3;

struct ToyPoint {
  double x = 0, y = 0;  ///< unscaled
  int64_t mode = 0;     ///< 0 to 7, anticlockwise from the positive x axis
};

/// Share of each mode; sums to 1.
std::array<double, kToyModes> toy_mixture_weights(const ToyMixtureSpec& spec);
/// Centre of each mode, unscaled.
std::array<std::array<double, 2>, kToyModes> toy_mixture_centres();

/// Point `index` of the endless set: a pure function of (spec, seed, index).
ToyPoint toy_mixture_point(const ToyMixtureSpec& spec, uint64_t seed, int64_t index);

/// Points first .. first + count - 1 as normalised latents [count, 2, 1, 1, 1] float32 (codec points-2d).
at::Tensor toy_mixture_latents(const ToyMixtureSpec& spec, uint64_t seed, int64_t first, int64_t count);

}  // namespace tmd::data
