#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tmd::sharding {

/// How a tensor starts. Element i is a function of (seed, tensor name, i) alone, so it does not depend on
/// the mesh.
struct Initialiser {
  enum class Kind { kConstant, kNormal, kUniform, kIdentityThenNormal };
  Kind kind = Kind::kConstant;
  double value = 0;  ///< the constant, the standard deviation, or the bound of a symmetric uniform range

  static Initialiser constant(double value) { return {Kind::kConstant, value}; }
  static Initialiser normal(double standard_deviation) { return {Kind::kNormal, standard_deviation}; }
  /// For [D, 2D]: the identity on the left half, normal numbers on the right one (TMD App. B.3).
  static Initialiser identity_then_normal(double standard_deviation) {
    return {Kind::kIdentityThenNormal, standard_deviation};
  }
  /// Uniform with bound sqrt(6 / (fan_in + fan_out)) (Wan 1.1).
  static Initialiser xavier_uniform(int64_t fan_in, int64_t fan_out);
};

/// One parameter tensor as a network declares it.
struct ParamSpec {
  std::string name;  ///< full name, e.g. "blocks.3.ffn.0.weight"
  std::vector<int64_t> shape;
  Initialiser init;
  double lr_multiplier = 1;
  bool weight_decay = true;
  bool wide = false;  ///< stays in float32 where the network computes in bfloat16 (Wan 9.1)
  /// Dimension that tensor parallelism cuts into equal blocks: 0 = output features (column parallel),
  /// 1 = input features (row parallel), -1 = none, every tensor rank has the whole (Wan 7.2).
  int split_dim = -1;

  /// Product of the shape.
  int64_t elements() const;
  /// Shape and elements of the block of one of `tensor_ranks` ranks; the whole when nothing is cut.
  std::vector<int64_t> block_shape(int tensor_ranks) const;
  int64_t block_elements(int tensor_ranks) const;
};

/// Parameters that are gathered, used and released together: a transformer block, the embedders, the head.
/// A unit is also what is recomputed in the backward pass.
struct UnitSpec {
  std::string name;
  std::vector<ParamSpec> params;

  /// Of all parameters, without padding.
  int64_t elements() const;
};

/// Sum over units, without padding.
int64_t count_elements(const std::vector<UnitSpec>& units);

}  // namespace tmd::sharding
