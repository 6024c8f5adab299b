#include "sharding/mesh.h"

#include <numeric>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::sharding {
namespace {

std::string divisors(int64_t n) {
  std::string text;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d == 0) text += (text.empty() ? "" : ", ") + std::to_string(d);
  }
  return text;
}

void check_split(const MeshShape& shape, const SplitLimits& limits) {
  check(limits.heads % (shape.sequence * shape.tensor) == 0, ErrorKind::kConfig,
        fmt::format("{} attention heads cannot be cut by mesh.sequence {} x mesh.tensor {}", limits.heads,
                    shape.sequence, shape.tensor),
        fmt::format("the product must be one of {}", divisors(limits.heads)));
  check(limits.ffn % shape.tensor == 0, ErrorKind::kConfig,
        fmt::format("{} features of the feed-forward layers cannot be cut by mesh.tensor {}", limits.ffn,
                    shape.tensor),
        fmt::format("it must be one of {}", divisors(std::gcd(limits.heads, limits.ffn))));
}

}  // namespace

std::string MeshShape::to_string() const {
  return fmt::format("replicate {} x shard {} x sequence {} x tensor {}{}", replicate, shard, sequence,
                     tensor, two_level ? ", two levels" : "");
}

MeshShape resolve_mesh(const MeshShape& wanted, int64_t ranks, const SplitLimits& limits) {
  MeshShape shape = wanted;
  int64_t given = 1;
  int64_t* open = nullptr;
  int open_axes = 0;
  for (int64_t* extent : {&shape.replicate, &shape.shard, &shape.sequence, &shape.tensor}) {
    check(*extent >= 0, ErrorKind::kConfig,
          fmt::format("mesh extents may not be negative: {}", wanted.to_string()));
    if (*extent == 0) {
      open = extent;
      ++open_axes;
    } else {
      given *= *extent;
    }
  }
  check(open_axes <= 1, ErrorKind::kConfig,
        fmt::format("only one mesh extent may be 0 (= fill): {}", wanted.to_string()));
  check(ranks % given == 0, ErrorKind::kConfig,
        fmt::format("{} trainer ranks do not fill the mesh {}", ranks, wanted.to_string()),
        fmt::format("the product of the extents that are not 0 must be one of {}", divisors(ranks)));
  if (open) *open = ranks / given;
  check(shape.ranks() == ranks, ErrorKind::kConfig,
        fmt::format("the mesh {} has {} ranks, but there are {} trainers", wanted.to_string(), shape.ranks(),
                    ranks),
        "set one extent to 0, which fills the mesh");
  check_split(shape, limits);
  if (shape.replicate == 1) shape.two_level = false;  // the same thing, by one name
  return shape;
}

Mesh::Mesh(const MeshShape& shape, comm::Communicator& trainers) : shape_(shape), world_(trainers) {
  ensure(shape.ranks() == trainers.size(), "the mesh covers the trainers");
  const int tensor = static_cast<int>(shape.tensor), per_sample = static_cast<int>(shape.sequence) * tensor;
  const int per_copy = static_cast<int>(shape.shard) * per_sample;
  const int rank = trainers.rank(), copy = rank / per_copy, sample = rank / per_sample;
  copy_ = trainers.split(copy, rank, "copy");
  if (tensor > 1) shard_ = trainers.split(copy * tensor + rank % tensor, rank, "shard");
  replicate_ = trainers.split(rank % per_copy, rank, "replicate");
  sample_ = trainers.split(sample, rank, "sample");
  sequence_ = trainers.split(sample * tensor + rank % tensor, rank, "sequence");
  tensor_ = trainers.split(rank / tensor, rank, "tensor");
}

void Mesh::close() {
  tensor_->close();
  sequence_->close();
  sample_->close();
  replicate_->close();
  if (shard_) shard_->close();
  copy_->close();
}

}  // namespace tmd::sharding
