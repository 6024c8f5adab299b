#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "orchestrator/latent_pictures.h"

namespace tmd::orchestrator {

/// A column of a sheet: one cell for each sample.
struct SheetColumn {
  std::string title;
  at::Tensor latents;  // [N, C, T, H, W], normalised
};

/// Writes samples beside each other: row i shows sample i of every column, in STEM.png (a few frames of each
/// video) and STEM.webp (all of them, moving). Points of the plane become one plot a column, with those of
/// the first column in grey, and no .webp. At least one column and one sample. Throws kIo, kInternal for
/// columns of different lengths.
void write_sheet(const LatentPictures& pictures, const std::vector<SheetColumn>& columns,
                 const std::filesystem::path& stem);

}  // namespace tmd::orchestrator
