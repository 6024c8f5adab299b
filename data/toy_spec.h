#pragma once

#include <optional>

#include "data/latent_header.h"
#include "data/toy_mixture.h"
#include "data/toy_shapes.h"

namespace tmd::data {

// The toy that made a file, read back from its `generator` attribute; nothing when it was another generator.

/// Frames, size and text sizes come from the header. Throws kData when a field is missing or garbled, kConfig
/// when ToyShapesSpec::validate refuses.
std::optional<ToyShapesSpec> toy_shapes_spec(const LatentHeader& header);
/// Takes equal weights when the attribute does not say.
std::optional<ToyMixtureSpec> toy_mixture_spec(const LatentHeader& header);

}  // namespace tmd::data
