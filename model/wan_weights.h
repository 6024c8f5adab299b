#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/safetensors_set.h"
#include "model/wan_config.h"
#include "model/wan_names.h"

namespace tmd::model {

/// The weights file that a path of a user stands for: the path itself if it is a safetensors file or an
/// index; in a folder its index, else its only safetensors file, else those of its folder `transformer`.
/// Throws kData: nothing there, no weights in the folder, several that could be meant, a pickle (.pth, .pt,
/// .ckpt, .bin), which is not read.
std::filesystem::path find_weights(const std::filesystem::path& path);

/// A Wan transformer in safetensors files, published or exported, opened but not loaded (Wan 3.1, 3.2).
struct WanWeights {
  SafetensorsSet files;
  WanSpelling spelling;
  WanConfig config;
  std::filesystem::path config_file;  ///< the config.json that was read; empty: sizes are from the shapes
  bool heads_known = false;           ///< config.heads is said by the files, not the 128 wide heads of the
                                      ///< published models
  bool epsilon_known = false;         ///< config.epsilon is said by the files, not that of the published ones
  bool has_student_parts = false;     ///< tensors of a TMD student stand beside Wan's

  int64_t parameters() const;  ///< of all tensors
  /// Element types that occur, in the order of their bytes, e.g. {"F32", "BF16"}.
  std::vector<std::string> dtypes() const;
};

/// Opens what `path` stands for (find_weights): recognises the spelling, takes the sizes from the shapes and,
/// for heads, text length and epsilon, from the config.json beside the weights or the metadata of an export.
/// (Heads may be said by their number or by their width.) Where those are silent, heads are 128 wide if that
/// divides the width, else there is one. Throws what find_weights and SafetensorsSet throw, and kData: no Wan
/// transformer (its first tensors are named); a kind of Wan that is not text-to-video; a config.json that is
/// broken, of another class, or contradicts the shapes; sizes that cannot be: an empty tensor where sizes are
/// taken from, an odd width, block numbers beyond the number of tensors, heads, text length or epsilon out of
/// range. Which tensors are missing is not looked at here: load_weights tells.
WanWeights open_wan_weights(const std::filesystem::path& path);

/// config.json of a transformer of `config`, as the class that reads `naming` wants it (Wan 3.1, 3.2).
std::string config_json(const WanConfig& config, WanNaming naming);

}  // namespace tmd::model
