#pragma once

#include <cstdint>
#include <vector>

namespace tmd::model {

/// What a branch of the discriminator is made of: the heads that TMD compares.
enum class DiscriminatorKind {
  kConv3d,     ///< 3-D convolutions on several pooling scales, the paper's choice (discriminator_conv3d.h)
  kConv1d2d,   ///< convolutions over time and over space in turn (discriminator_conv1d2d.h)
  kAttention,  ///< a transformer on the positions of the map (discriminator_attention.h)
};

/// Discriminator on feature maps of the teacher (TMD App. A.3): one branch and one logit per feature map.
///
/// Parameters of the three branches of 384 channels (1.3B), with the values below: 67.9 M, 54.5 M and 32.9 M.
struct DiscriminatorConfig {
  DiscriminatorKind kind = DiscriminatorKind::kConv3d;
  int64_t channels = 384;  ///< C of the feature maps, D / 4
  int64_t heads = 3;       ///< feature maps
  int64_t reduction = 1;   ///< kConv3d: divides C, the branches' convolutions have C / reduction
  std::vector<int64_t> scales = {1, 2, 4, 8, 16};  ///< kConv3d: pooling factors; clipped to the map's size
  int64_t hidden = 1024;                           ///< width of the perceptron on what a branch has pooled
  double dropout = 0.1;                            ///< in front of the last Linear, in the critic step only
  std::vector<int64_t> conv_widths = {512, 512, 1024};  ///< kConv1d2d: channels, one for each pair
  /// kAttention.
  struct Attention {
    int64_t width = 512;  ///< of a token, a multiple of `heads`
    int64_t heads = 16;
    int64_t layers = 3;
    int64_t pool = 1;  ///< a token is the mean of pool x pool positions of a frame
  } attention = {};

  /// Channels inside a branch of kConv3d, R.
  int64_t inner_channels() const { return channels / reduction; }
  /// Groups of its GroupNorms.
  int64_t groups() const;
};

/// Groups of a GroupNorm of the discriminator over `channels`: the largest divisor that is at most
/// channels / 4 (at least 1) for up to 32 channels, at most 32 for more.
int64_t group_count(int64_t channels);

}  // namespace tmd::model
