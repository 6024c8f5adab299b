#include "data/toy_mixture.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/philox.h"

namespace tmd::data {
namespace {

// From 0.3 down to 0.03, each about 0.72 of the one before.
constexpr std::array<double, kToyModes> kUnequalWeights = {0.30, 0.22, 0.155, 0.11, 0.08, 0.06, 0.045, 0.03};

}  // namespace

std::array<double, kToyModes> toy_mixture_weights(const ToyMixtureSpec& spec) {
  if (!spec.equal_weights) return kUnequalWeights;
  std::array<double, kToyModes> equal;
  equal.fill(1.0 / kToyModes);
  return equal;
}

std::array<std::array<double, 2>, kToyModes> toy_mixture_centres() {
  constexpr double a = kToyRingRadius, b = kToyRingRadius * 0.70710678118654752;
  return {{{a, 0}, {b, b}, {0, a}, {-b, b}, {-a, 0}, {-b, -b}, {0, -a}, {b, -b}}};
}

ToyPoint toy_mixture_point(const ToyMixtureSpec& spec, uint64_t seed, int64_t index) {
  const PhiloxStream stream(seed, 0, static_cast<uint64_t>(index), Purpose::kToy);
  const auto weights = toy_mixture_weights(spec);
  double left = stream.uniform(0);  // words 0 and 1
  int64_t mode = 0;
  while (mode < kToyModes - 1 && left >= weights[mode]) left -= weights[mode++];
  const auto centre = toy_mixture_centres()[mode];
  return {centre[0] + kToyModeStd * stream.normal(2), centre[1] + kToyModeStd * stream.normal(3), mode};
}

at::Tensor toy_mixture_latents(const ToyMixtureSpec& spec, uint64_t seed, int64_t first, int64_t count) {
  at::Tensor latents = at::empty({count, 2, 1, 1, 1}, at::kFloat);
  float* out = latents.mutable_data_ptr<float>();
  for (int64_t i = first; i < first + count; ++i) {
    const ToyPoint point = toy_mixture_point(spec, seed, i);
    *out++ = static_cast<float>(point.x / kToyMixtureScale);
    *out++ = static_cast<float>(point.y / kToyMixtureScale);
  }
  return latents;
}

}  // namespace tmd::data
