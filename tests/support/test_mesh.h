#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/single_communicator.h"
#include "sharding/mesh.h"
#include "sharding/sharded_network.h"

namespace tmd::test {

/// A mesh of one rank without MPI, for tests of one process.
struct SingleMesh {
  comm::SingleCommunicator world{"test"};
  sharding::Mesh mesh{sharding::MeshShape{.replicate = 1, .shard = 1, .sequence = 1, .tensor = 1}, world};
  sharding::GatherBuffers buffers;
};

}  // namespace tmd::test
