#pragma once

#include <cstdint>
#include <vector>

namespace tmd::model {

/// Sizes of a Wan2.1 text-to-video transformer (Wan 1). Not checked here.
struct WanConfig {
  int64_t heads = 12;
  int64_t head_dim = 128;  ///< even
  int64_t ffn = 8960;      ///< F, width of the feed-forward layer
  int64_t layers = 30;     ///< L
  int64_t channels = 16;   ///< of the latent
  int64_t text_dim = 4096;
  int64_t text_length = 512;  ///< S, rows of a text embedding
  int64_t freq_dim = 256;     ///< size of the time sinusoid, even
  double epsilon = 1e-6;      ///< of LayerNorm and RMSNorm

  int64_t width() const { return heads * head_dim; }           ///< D
  static constexpr int64_t kPatchHeight = 2, kPatchWidth = 2;  // the temporal patch size is 1
  int64_t patch_values() const { return channels * kPatchHeight * kPatchWidth; }  ///< 4 C

  static WanConfig wan_1_3b() { return {}; }
  static WanConfig wan_14b();

  /// Blocks whose outputs the discriminator reads by default: 15, 22, 29 of 30, 19, 29, 39 of 40, and
  /// L/2, 3L/4, L-1 of any other depth (0-based, ascending, each once; TMD App. A.3).
  std::vector<int64_t> default_feature_blocks() const;
  /// H of the TMD student: 5 for the published depths (TMD's main results), max(1, L/6) for any other.
  int64_t default_head_blocks() const;

  bool operator==(const WanConfig&) const = default;
};

/// Tokens of a latent along time, height and width (Wan 2).
struct TokenGrid {
  int64_t frames, height, width;
  int64_t tokens() const { return frames * height * width; }  ///< N
  bool operator==(const TokenGrid&) const = default;
};

}  // namespace tmd::model
