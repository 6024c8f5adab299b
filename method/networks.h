#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/error.h"

namespace tmd::method {

// What the method needs of networks. Z stands for the latent shape [B, C, T, H, W]; times are [B] float64 in
// 0 .. 1, 0 = data, 1 = noise; text is [B, S, E]. Implementations multiply times by 1000 for the network, and
// decide whether parameters collect gradients. Every call is collective over the ranks that the network is
// cut over; errors are those of the implementation.

/// A network that predicts the outer velocity E[x_1 - x | x_t], Z (TMD Eq. 2): teacher, fake score, DMD2-v
/// student.
class VelocityNetwork {
 public:
  virtual ~VelocityNetwork() = default;
  virtual at::Tensor velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) = 0;

  /// The same without transformer block `block`, counted from 0: what enters it goes on to the next one. For
  /// skip-layer guidance. A network without blocks throws kConfig.
  virtual at::Tensor velocity_without(int64_t block, const at::Tensor& x_t, const at::Tensor& t,
                                      const at::Tensor& text) {
    (void)block, (void)x_t, (void)t, (void)text;
    throw Error(ErrorKind::kConfig, "skip-layer guidance leaves a block out, and this network has none",
                "sampler.skip_block = -1");
  }

  struct WithFeatures {
    at::Tensor velocity;               ///< Z; undefined when only features were asked for
    std::vector<at::Tensor> features;  ///< maps [B, F, T, H, W] for the discriminator (TMD App. A.3)
  };
  /// `features_only`: the pass may stop at the last feature block.
  virtual WithFeatures velocity_and_features(const at::Tensor& x_t, const at::Tensor& t,
                                             const at::Tensor& text, bool features_only) = 0;
};

/// The decoupled TMD student: m_theta and head_theta (TMD Sec. 3).
class StudentNetwork {
 public:
  virtual ~StudentNetwork() = default;

  /// m_theta(x_t, t, c) with the text that the head needs too.
  struct MainFeature {
    at::Tensor tokens;   ///< [B, N, D], first dimension is the batch for every model
    at::Tensor context;  ///< [B, S, D]
  };
  virtual MainFeature backbone(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) = 0;

  /// head_theta(y_s, s, s - r; m, c): an estimate of y, Z (TMD Eq. 14). y_s Z, s and r [B], r <= s.
  virtual at::Tensor head(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r,
                          const MainFeature& m) = 0;
};

/// One logit per feature map.
class DiscriminatorNetwork {
 public:
  virtual ~DiscriminatorNetwork() = default;
  /// maps: one [B, F, T, H, W] per head. keep: dropout masks [B, hidden] of 0 and 1, one per head, or empty
  /// for none. Returns [B, heads].
  virtual at::Tensor logits(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep) = 0;
};

}  // namespace tmd::method
