#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "model/wan_weights.h"
#include "orchestrator/export_info.h"
#include "sharding/flat_layout.h"
#include "sharding/sharded_network.h"
#include "workers/device.h"

namespace tmd::orchestrator {

/// What a network that is only run computes with (`--dtype`).
enum class Precision {
  kF64,
  kF32,
  kBf16,           ///< bfloat16 products, float32 residual stream and islands (the original under autocast)
  kBf16Diffusers,  ///< bfloat16 residual stream too, rounded where diffusers rounds (Wan 2.10)
};

/// "f64", "f32", "bf16", "bf16-diffusers". Throws kUsage for another word.
Precision parse_precision(const std::string& word);
at::ScalarType compute_type(Precision precision);

/// "auto", "cpu", "cuda" (`--device`). Throws kUsage for another word.
workers::DeviceOptions parse_device(const std::string& word);

/// Weights files of a Wan transformer or of an exported student, opened but not loaded: all that their
/// headers say.
struct OpenedWan {
  /// Throws, on all ranks: as model::open_wan_weights and from_metadata. Collective over: `world`.
  OpenedWan(comm::Communicator& world, const std::filesystem::path& path);

  std::unique_ptr<model::WanWeights> weights;
  std::optional<ExportInfo> info;  ///< what an export says of itself; empty for published weights

  /// Those of the whole network.
  std::vector<sharding::UnitSpec> units() const;
};

/// How weights are loaded.
struct LoadOptions {
  bool trainable = false;  ///< gradients of parameters are wanted, and room for all of them on rank 0
  sharding::MeshShape mesh;
  workers::DeviceOptions device{.kind = workers::DeviceOptions::Kind::kCpu};
};

/// Bytes that a network of `units` takes on a host where `here` ranks run: shards, and the buffers of each
/// rank; for a trainable one with rank 0 on the host also one whole set of gradients.
int64_t host_bytes(const std::vector<sharding::UnitSpec>& units, sharding::ShardExtents extents,
                   Precision precision, bool trainable, int64_t here, bool has_rank_0);

/// A Wan transformer or an exported student from weights files, cut over all ranks.
class LoadedWan {
 public:
  /// Checks that the weights fit into the memory of the hosts or devices, makes the network and fills it;
  /// every rank reads its own byte ranges. Throws, on all ranks: as load_weights and DeviceGroup;
  /// kDoesNotFit, before anything is read or allocated, with what would fit. Collective over: `world`.
  LoadedWan(comm::Communicator& world, OpenedWan opened, Precision precision,
            const LoadOptions& options = {});

  const model::WanWeights& weights() const { return *opened_.weights; }
  const std::optional<ExportInfo>& info() const { return opened_.info; }
  sharding::ShardedNetwork& network() { return *network_; }
  const sharding::Mesh& mesh() const { return *mesh_; }
  at::Device device() const { return group_.device(); }
  Precision precision() const { return precision_; }

  /// What loading took, over all ranks.
  struct LoadReport {
    double seconds = 0;            ///< of the slowest rank
    int64_t bytes_read = 0;        ///< by system calls, sum
    int64_t file_bytes = 0;        ///< of the tensors in the files
    int64_t shard_bytes = 0;       ///< of one rank
    int64_t largest_unit = 0;      ///< bytes of the largest unit when it is gathered
    int64_t peak_above_start = 0;  ///< most memory while loading above that before, of the worst rank
  };
  const LoadReport& report() const { return report_; }

  /// Collective over: the world.
  void close();

 private:
  void load(bool trainable);

  Precision precision_;
  OpenedWan opened_;
  workers::DeviceGroup group_;
  std::unique_ptr<sharding::Mesh> mesh_;
  sharding::GatherBuffers buffers_;
  std::unique_ptr<sharding::ShardedNetwork> network_;
  LoadReport report_;
};

}  // namespace tmd::orchestrator
