#pragma once

#include <optional>

#include "data/latent_header.h"
#include "data/toy_mixture.h"
#include "data/toy_shapes.h"

namespace tmd::data {

/// The toy that made a file, read back from its `generator` attribute; nothing when it was another generator. Throws kData
/// when the attribute names the toy but lacks or garbles a field.
std::optional<ToyShapesSpec> toy_shapes_spec(const LatentHeader& header);
std::optional<ToyMixtureSpec> toy_mixture_spec(const LatentHeader& header);

}  // namespace tmd::data
