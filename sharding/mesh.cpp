#include "sharding/mesh.h"

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

}  // namespace

std::string MeshShape::to_string() const {
  return fmt::format("replicate {} x shard {} x sequence {} x tensor {}", replicate, shard, sequence, tensor);
}

MeshShape resolve_mesh(const MeshShape& wanted, int64_t ranks, int64_t heads) {
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
  const int64_t split = (shape.sequence ? shape.sequence : 1) * (shape.tensor ? shape.tensor : 1);
  check(heads % split == 0, ErrorKind::kConfig,
        fmt::format("{} attention heads cannot be cut by mesh.sequence {} x mesh.tensor {}", heads,
                    shape.sequence, shape.tensor),
        fmt::format("the product must be one of {}", divisors(heads)));
  check(ranks % given == 0, ErrorKind::kConfig,
        fmt::format("{} trainer ranks do not fill the mesh {}", ranks, wanted.to_string()),
        fmt::format("the product of the extents that are not 0 must be one of {}", divisors(ranks)));
  if (open) *open = ranks / given;
  check(shape.ranks() == ranks, ErrorKind::kConfig,
        fmt::format("the mesh {} has {} ranks, but there are {} trainers", wanted.to_string(), shape.ranks(),
                    ranks),
        "set one extent to 0, which fills the mesh");
  check(shape.sequence == 1 && shape.tensor == 1, ErrorKind::kConfig,
        fmt::format("mesh.sequence {} and mesh.tensor {}: this version runs replicate and shard only",
                    shape.sequence, shape.tensor),
        "set both to 1");
  return shape;
}

Mesh::Mesh(const MeshShape& shape, comm::Communicator& trainers) : shape_(shape), world_(trainers) {
  ensure(shape.ranks() == trainers.size(), "the mesh covers the trainers");
  const int per_copy = static_cast<int>(shape.shard * shape.sequence);
  const int rank = trainers.rank();
  shard_ = trainers.split(rank / per_copy, rank, "shard");
  replicate_ = trainers.split(rank % per_copy, rank, "replicate");
}

void Mesh::close() {
  replicate_->close();
  shard_->close();
}

}  // namespace tmd::sharding
