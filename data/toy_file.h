#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/toy_mixture.h"
#include "data/toy_shapes.h"

// Toy sets as tmd-latents files (float32, sealed), so that they take the same way to the trainer as real
// data. A file of that name is replaced once the new one is complete. `count` >= 1 (kInternal).
namespace tmd::data {

/// `count` points from index `first` on: codec points-2d, latents [count, 2, 1, 1, 1], text [count, 1, 4] of
/// ones, negative text of zeros with length 1. Throws kIo.
void write_toy_mixture(const std::filesystem::path& path, const ToyMixtureSpec& spec, uint64_t seed,
                       int64_t first, int64_t count);

/// `count` videos from index `first` on: codec pixels-2x2, captions as text, the negative word as negative
/// text, and an extra data set /label int32 [count, 4] (shape, colour, motion, speed). Throws kConfig
/// (spec.validate), kIo.
void write_toy_shapes(const std::filesystem::path& path, const ToyShapesSpec& spec, uint64_t seed,
                      int64_t first, int64_t count);

/// Mean and std per channel of the unnormalised pixels-2x2 latents, [12] each.
struct ChannelStatistics {
  std::vector<float> mean, std;
};

/// Over a fixed calibration set of 1,024 samples: a pure function of the spec, so that all files of a spec
/// share one normalisation.
ChannelStatistics toy_shapes_statistics(const ToyShapesSpec& spec);

/// /label of a file that write_toy_shapes made, one per sample. Throws kData when there is none or its shape
/// or type is wrong; and as Hdf5File::open.
std::vector<ShapeLabel> read_toy_labels(const std::filesystem::path& path);

}  // namespace tmd::data
