#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/philox.h"
#include "method/stage1.h"
#include "method/stage2.h"
#include "method/teacher.h"

namespace tmd::method {

/// Names the random numbers of one iteration. Everything that a step draws is a function of (seed, iteration,
/// sample slot in the global batch, purpose), so it does not depend on ranks, micro-batches or restarts.
/// Limits: those of PhiloxStream, with the slot as its sample.
struct DrawKey {
  uint64_t seed = 0;
  uint64_t iteration = 0;
  std::span<const int64_t> slots;  ///< [rows], slots of the global batch that the rows belong to; borrowed

  int64_t rows() const { return static_cast<int64_t>(slots.size()); }
};

/// N(0, 1) of shape [rows, shape...], float64 or float32 (the same, rounded), on any device: the same bits on
/// all. Nothing is drawn on the meta device.
at::Tensor draw_normal(const DrawKey& key, Purpose purpose, at::IntArrayRef shape,
                       const at::TensorOptions& options);
/// Uniform in [low, high), [rows] float64.
at::Tensor draw_uniform(const DrawKey& key, Purpose purpose, double low, double high);
/// True with probability p, [rows] bool.
at::Tensor draw_bernoulli(const DrawKey& key, Purpose purpose, double p);
/// Uniform integers in 1 .. n, [rows] int64.
at::Tensor draw_index(const DrawKey& key, Purpose purpose, int64_t n);
/// 1 with probability 1 - dropout, else 0; [rows, width] of `type`. `head` (0, 1, ...) keeps the masks of
/// several heads apart, which have equal widths.
at::Tensor draw_keep_mask(const DrawKey& key, Purpose purpose, int head, int64_t width, double dropout,
                          at::ScalarType type);

/// Shares of samples that stage 1 and the teacher treat specially.
struct DrawShares {
  double flow_matching = 0.75;  ///< r = s
  double condition_drop = 0.1;  ///< text replaced by the negative prompt
};

/// All draws of one step for data `x`, a latent Z whose B is key.rows(); only its shape, type and device
/// matter. What has the shape of a latent is drawn where `x` is, the same bits everywhere; masks go there,
/// and the rest stays on the host.
TeacherDraws draw_teacher(const DrawKey& key, const at::Tensor& x, const TeacherOptions& options,
                          double condition_drop);
Stage1Draws draw_stage1(const DrawKey& key, const at::Tensor& x, const Stage1Options& options,
                        const DrawShares& shares);

/// Of the masks of the critic step.
struct DropoutShape {
  int heads = 0;       ///< 0 = no discriminator, no masks
  int64_t hidden = 0;  ///< width of each mask
  double dropout = 0;  ///< probability of 0
};
/// The same; what an option of `options` does not need is undefined or empty. There are dropout.heads masks
/// each in keep_fake and keep_real,
Stage2Draws draw_stage2(const DrawKey& key, const at::Tensor& x, const Stage2Options& options,
                        const DropoutShape& dropout);

}  // namespace tmd::method
