#include "orchestrator/loaded_wan.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <map>
#include <unistd.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/host_memory.h"
#include "base/log.h"
#include "comm/agree.h"
#include "model/tmd_student.h"
#include "model/weights_file.h"
#include "sharding/network_bytes.h"
#include "workers/networks.h"

namespace tmd::orchestrator {
namespace {

constexpr std::pair<const char*, Precision> kPrecisions[] = {{"f64", Precision::kF64},
                                                             {"f32", Precision::kF32},
                                                             {"bf16", Precision::kBf16},
                                                             {"bf16-diffusers", Precision::kBf16Diffusers}};

std::string gigabytes(double bytes) { return fmt::format("{:.1f} GB", bytes / 1e9); }

// Ranks on this rank's host.
int64_t ranks_here(comm::Communicator& world) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::vector<std::string> hosts = comm::gather_strings(world, host);
  return std::count(hosts.begin(), hosts.end(), std::string(host));
}

// What a user could do instead, from the cheapest on. Sizes are those of a rank.
std::string what_would_fit(const std::vector<sharding::UnitSpec>& units, at::ScalarType type, bool trainable,
                           int ranks, int64_t here, uint64_t available) {
  std::vector<std::string> ways;
  const auto need = [&](at::ScalarType t, int shards) {
    const sharding::NetworkBytes bytes = sharding::network_bytes(units, {.shards = shards}, t, trainable);
    return static_cast<double>(bytes.kept + bytes.largest_unit) * static_cast<double>(here);
  };
  const auto fits = [&](double bytes) { return bytes <= static_cast<double>(available); };
  if (type != at::kBFloat16 && fits(need(at::kBFloat16, ranks))) {
    return fmt::format("--dtype bf16 needs {} and would fit", gigabytes(need(at::kBFloat16, ranks)));
  }
  const int hosts_now = std::max<int>(1, ranks / static_cast<int>(here));
  for (const at::ScalarType t : {at::kBFloat16, type}) {
    for (int hosts = hosts_now + 1; hosts <= 1024; ++hosts) {
      const double bytes = need(t, hosts * static_cast<int>(here));
      if (!fits(bytes)) continue;
      ways.push_back(fmt::format("{} hosts like this with --dtype {} ({} on each)", hosts,
                                 t == at::kBFloat16 ? "bf16" : at::toString(t), gigabytes(bytes)));
      break;
    }
    if (type == at::kBFloat16) break;
  }
  return ways.empty() ? "no number of hosts like this would do"
                      : fmt::format("would fit: {}", fmt::join(ways, ", or "));
}

sharding::ShardExtents extents_of(const sharding::MeshShape& mesh) {
  return {.shards = static_cast<int>(mesh.shard * mesh.sequence), .tensor = static_cast<int>(mesh.tensor)};
}

void require_memory(comm::Communicator& world, const std::vector<sharding::UnitSpec>& units,
                    const sharding::MeshShape& mesh, at::ScalarType type, bool trainable,
                    const std::string& name) {
  const int64_t here = ranks_here(world);
  comm::run_agreed(world, [&] {
    const sharding::NetworkBytes bytes = sharding::network_bytes(units, extents_of(mesh), type, trainable);
    const int64_t buffer = world.size() > 1 ? bytes.largest_unit : 0;
    const double needed = static_cast<double>((bytes.kept + buffer) * here);
    const uint64_t available = available_memory();
    check(available == 0 || needed <= static_cast<double>(available), ErrorKind::kDoesNotFit,
          fmt::format("{} with {:.2f} G parameters needs {} on this host ({} of {} ranks), and {} are free",
                      name, static_cast<double>(sharding::count_elements(units)) / 1e9, gigabytes(needed),
                      here, world.size(), gigabytes(static_cast<double>(available))),
          what_would_fit(units, type, trainable, world.size(), here, available));
  });
}

}  // namespace

Precision parse_precision(const std::string& word) {
  for (const auto& [name, precision] : kPrecisions) {
    if (word == name) return precision;
  }
  throw Error(ErrorKind::kUsage, "there is no element type " + word, "take f64, f32, bf16 or bf16-diffusers");
}

at::ScalarType compute_type(Precision precision) {
  if (precision == Precision::kF64) return at::kDouble;
  return precision == Precision::kF32 ? at::kFloat : at::kBFloat16;
}

LoadedWan::LoadedWan(comm::Communicator& world, const std::filesystem::path& path, Precision precision,
                     bool trainable, const sharding::MeshShape& mesh)
    : precision_(precision) {
  comm::run_agreed(world, [&] {
    weights_ = std::make_unique<model::WanWeights>(model::open_wan_weights(path));
    info_ = from_metadata(weights_->files.metadata(), weights_->config, weights_->files.path());
  });
  const at::ScalarType type = compute_type(precision);
  const sharding::MeshShape shape = sharding::resolve_mesh(
      mesh, world.size(), {.heads = weights_->config.heads, .ffn = weights_->config.ffn});
  require_memory(world, units(), shape, type, trainable, path.string());
  mesh_ = std::make_unique<sharding::Mesh>(shape, world);
  load(world, trainable);
}

std::vector<sharding::UnitSpec> LoadedWan::units() const {
  const bool has_head = info_ && !info_->is_teacher && workers::is_decoupled(info_->method.name);
  return has_head ? model::tmd_student_units(info_->student) : model::wan_units(weights_->config);
}

void LoadedWan::load(comm::Communicator& world, bool trainable) {
  const auto start = std::chrono::steady_clock::now();
  const uint64_t memory = resident_memory(), read = bytes_read_by_process();
  const at::ScalarType type = compute_type(precision_);
  const sharding::NetworkBytes bytes =
      sharding::network_bytes(units(), extents_of(mesh_->shape()), type, trainable);
  comm::run_agreed(world, [&] {
    network_ =
        std::make_unique<sharding::ShardedNetwork>("transformer", units(), *mesh_, type, trainable, buffers_);
    model::load_weights(*network_, weights_->files,
                        [&](const std::string& name) { return weights_->spelling.of(name); });
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  double sums[] = {static_cast<double>(bytes_read_by_process() - read)};
  comm::sum(world, sums);
  const uint64_t peak = std::max(peak_resident_memory(), memory);
  report_ = {.seconds = static_cast<double>(comm::agree_max(world, std::llround(took.count() * 1e6))) / 1e6,
             .bytes_read = std::llround(sums[0]),
             .file_bytes = static_cast<int64_t>(weights_->files.data_bytes()),
             .shard_bytes = bytes.kept,
             .largest_unit = bytes.largest_unit,
             .peak_above_start = comm::agree_max(world, static_cast<int64_t>(peak - memory))};
  if (world.rank() == 0) {
    log_info(
        "loaded {} ({} naming, {:.2f} G parameters) on {} ranks in {:.2f} s; read {:.3f} times the tensors' "
        "{}",
        weights_->files.path().string(), name(weights_->spelling.naming),
        static_cast<double>(weights_->parameters()) / 1e9, world.size(), report_.seconds,
        static_cast<double>(report_.bytes_read) / static_cast<double>(report_.file_bytes),
        gigabytes(static_cast<double>(report_.file_bytes)));
  }
}

void LoadedWan::close() { mesh_->close(); }

}  // namespace tmd::orchestrator
