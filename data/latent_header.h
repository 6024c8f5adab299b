#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/hdf5.h"

namespace tmd::data {

/// How numbers of /latents, /text and /negative_text are stored.
enum class StoredType { kFloat16, kFloat32, kBfloat16 };
/// Bytes of one element.
size_t size_bytes(StoredType type);

/// What a generated sample started from: noise that is a function of both (docs/formats/tmd-latents.md).
struct NoiseOf {
  uint64_t seed = 0;
  int64_t number = 0;  ///< of the sample among all that were made with this seed, 0 to 2^48 - 1
  bool operator==(const NoiseOf&) const = default;
};

/// What a tmd-latents file (version 1, docs/formats/tmd-latents.md) says about itself.
struct LatentHeader {
  bool has_latents = true;                   ///< false: a list of prompts with embeddings
  int64_t samples = 0;                       ///< N
  std::string codec;                         ///< how a latent becomes pictures: make_codec(codec)
  std::array<int64_t, 4> latent_shape = {};  ///< C, T, H, W; zeros without latents
  std::array<int64_t, 2> text_shape = {};    ///< S rows, E features
  StoredType latent_type = StoredType::kFloat16;
  StoredType text_type = StoredType::kFloat16;
  std::vector<float> latent_mean, latent_std;  ///< [C]: picture-side latent = stored * std + mean
  int64_t video_frames = 0, video_height = 0, video_width = 0;  ///< 0: not stated
  double fps = 0;                                               ///< 0: not stated
  std::string text_encoder, negative_prompt;                    ///< empty: not stated
  std::string generator;                                        ///< JSON text; empty: not stated
  /// Of sample 0; sample i has the number of sample 0 plus i. Empty: not stated, or without latents.
  std::optional<NoiseOf> noise;
  bool has_prompts = false, has_negative_text = false, has_checksum = false;

  /// Of one sample: C*T*H*W, 0 without latents.
  int64_t latent_elements() const;
  int64_t text_elements() const { return text_shape[0] * text_shape[1]; }
  bool operator==(const LatentHeader&) const = default;
};

/// Reads and validates the header; every data set that the header promises has the right shape afterwards,
/// and the right type but for /text_length and the negative text, which are looked at when they are read.
/// Throws kData: wrong or missing `format`, a `version` other than 1, missing or disagreeing data sets,
/// unnormalised latents, mean and std that are not C finite numbers (std > 0), a `generator` that is no JSON,
/// one of the two attributes of the noise without the other or with a value that it cannot have.
/// Other data sets and attributes are ignored. Logs a warning for compressed data.
LatentHeader read_latent_header(const Hdf5File& file);

/// Writes the attributes of the file's root (the data sets are the writer's); what is not stated is left out.
/// Throws kIo, also when an attribute exists.
void write_latent_attributes(Hdf5File& file, const LatentHeader& header);

/// The stored type of a data set of numbers: uint16 with attribute dtype="bfloat16" is bfloat16. Throws kData
/// for any other type.
StoredType stored_type(const Hdf5Dataset& dataset);

}  // namespace tmd::data
