#pragma once

#include <vector>

#include <ATen/ATen.h>

#include "sharding/param_spec.h"
#include "sharding/sharded_network.h"

namespace tmd::test {

/// Two units with parameters that end inside of rows of any cut, some of them wide; about `rows` x 33
/// elements.
inline std::vector<sharding::UnitSpec> odd_units(int64_t rows) {
  const auto normal = sharding::Initialiser::normal(1);
  return {
      {"front", {{"front.weight", {rows, 17}, normal}, {"front.norm", {29}, normal, 1, true, /*wide=*/true}}},
      {"back",
       {{"back.patch", {5, 3, 1, 2, 2}, normal},
        {"back.weight", {rows, 16}, normal},
        {"back.bias", {5}, normal, 1, true, /*wide=*/true}}}};
}

/// Same bits, also of zeros and NaN.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         a.contiguous().view(-1).view(at::kByte).equal(b.contiguous().view(-1).view(at::kByte));
}

/// Whether all shards of both networks on this rank hold the same bits. They have one type and one mesh.
inline bool same_shards(const sharding::ShardedNetwork& a, const sharding::ShardedNetwork& b) {
  for (int unit = 0; unit < a.units(); ++unit) {
    if (a.shard(unit).master.defined() && !same_bits(a.shard(unit).master, b.shard(unit).master))
      return false;
    for (size_t i = 0; i < a.shard(unit).parts.size(); ++i) {
      if (!same_bits(a.shard(unit).parts[i], b.shard(unit).parts[i])) return false;
    }
  }
  return true;
}

}  // namespace tmd::test
