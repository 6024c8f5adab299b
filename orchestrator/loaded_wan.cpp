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

std::string word_of(Precision precision) {
  for (const auto& [name, known] : kPrecisions) {
    if (known == precision) return name;
  }
  return {};
}

// The ranks on this rank's host.
struct Host {
  int64_t ranks = 0;
  bool has_rank_0 = false;
};

Host this_host(comm::Communicator& world) {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  const std::vector<std::string> hosts = comm::gather_strings(world, name);
  return {.ranks = std::count(hosts.begin(), hosts.end(), std::string(name)), .has_rank_0 = hosts[0] == name};
}

// What a user could do instead, from the cheapest on.
std::string what_would_fit(const std::vector<sharding::UnitSpec>& units, sharding::ShardExtents extents,
                           Precision precision, bool trainable, const Host& host, uint64_t available) {
  const auto need = [&](Precision p, int hosts_times) {
    const sharding::ShardExtents more = {.shards = extents.shards * hosts_times, .tensor = extents.tensor};
    return static_cast<double>(host_bytes(units, more, p, trainable, host.ranks, host.has_rank_0));
  };
  const auto fits = [&](double bytes) { return bytes <= static_cast<double>(available); };
  const bool is_narrow = compute_type(precision) == at::kBFloat16;
  if (!is_narrow && fits(need(Precision::kBf16, 1)))
    return fmt::format("--dtype bf16 needs {} and would fit", gigabytes(need(Precision::kBf16, 1)));
  const int64_t hosts_now = std::max<int64_t>(1, extents.ranks() / host.ranks);
  std::vector<std::string> ways;
  std::vector<Precision> choices = {precision};
  if (!is_narrow) choices.insert(choices.begin(), Precision::kBf16);
  for (const Precision p : choices) {
    int too_few = 1, times = 1024;  // more hosts need less on each
    if (!fits(need(p, times))) continue;
    while (times - too_few > 1) {
      const int middle = (too_few + times) / 2;
      (fits(need(p, middle)) ? times : too_few) = middle;
    }
    ways.push_back(fmt::format("{} hosts like this with --dtype {} ({} on each)", hosts_now * times,
                               word_of(p), gigabytes(need(p, times))));
  }
  return ways.empty() ? "no number of hosts like this would do"
                      : fmt::format("would fit: {}", fmt::join(ways, ", or "));
}

// Free memory where this rank's network goes.
std::optional<uint64_t> free_memory(at::Device device) {
  return device.is_cpu() ? available_memory() : std::optional<uint64_t>(cuda::memory_info().free_bytes);
}

void require_memory(const workers::DeviceGroup& group, const std::vector<sharding::UnitSpec>& units,
                    const sharding::MeshShape& mesh, Precision precision, bool trainable,
                    const std::string& name) {
  comm::Communicator& world = group.comm();
  // A device is its rank's own.
  const bool is_host = group.device().is_cpu();
  const Host host = is_host ? this_host(world) : Host{.ranks = 1, .has_rank_0 = world.rank() == 0};
  comm::run_agreed(world, [&] {
    const sharding::ShardExtents extents = mesh.extents();
    const auto needed =
        static_cast<double>(host_bytes(units, extents, precision, trainable, host.ranks, host.has_rank_0));
    const std::optional<uint64_t> available = free_memory(group.device());
    if (!available || needed <= static_cast<double>(*available)) return;
    throw Error(
        ErrorKind::kDoesNotFit,
        fmt::format("{} with {:.2f} G parameters needs {} on this {} ({} of {} ranks), and {} are free", name,
                    static_cast<double>(sharding::count_elements(units)) / 1e9, gigabytes(needed),
                    is_host ? "host" : "device", host.ranks, world.size(),
                    gigabytes(static_cast<double>(*available))),
        what_would_fit(units, extents, precision, trainable, host, *available));
  });
}

}  // namespace

Precision parse_precision(const std::string& word) {
  for (const auto& [name, precision] : kPrecisions) {
    if (word == name) return precision;
  }
  throw Error(ErrorKind::kUsage, "there is no element type " + word, "take f64, f32, bf16 or bf16-diffusers");
}

workers::DeviceOptions parse_device(const std::string& word) {
  using Kind = workers::DeviceOptions::Kind;
  for (const auto& [name, kind] :
       {std::pair("auto", Kind::kAuto), {"cpu", Kind::kCpu}, {"cuda", Kind::kCuda}}) {
    if (word == name) return {.kind = kind};
  }
  throw Error(ErrorKind::kUsage, "there is no device " + word, "take auto, cpu or cuda");
}

at::ScalarType compute_type(Precision precision) {
  if (precision == Precision::kF64) return at::kDouble;
  return precision == Precision::kF32 ? at::kFloat : at::kBFloat16;
}

OpenedWan::OpenedWan(comm::Communicator& world, const std::filesystem::path& path) {
  comm::run_agreed(world, [&] {
    weights = std::make_unique<model::WanWeights>(model::open_wan_weights(path));
    info = from_metadata(weights->files.metadata(), weights->config, weights->files.path());
  });
}

std::vector<sharding::UnitSpec> OpenedWan::units() const {
  return info && info->has_flow_head() ? model::tmd_student_units(info->student)
                                       : model::wan_units(weights->config);
}

int64_t host_bytes(const std::vector<sharding::UnitSpec>& units, sharding::ShardExtents extents,
                   Precision precision, bool trainable, int64_t here, bool has_rank_0) {
  const at::ScalarType type = compute_type(precision);
  const sharding::NetworkBytes bytes = sharding::network_bytes(units, extents, type, trainable);
  const int64_t wide = type == at::kDouble ? 8 : 4;
  const int64_t gradients = trainable && has_rank_0 ? sharding::count_elements(units) * wide : 0;
  return (bytes.kept + bytes.buffers) * here + gradients;
}

LoadedWan::LoadedWan(comm::Communicator& world, OpenedWan opened, Precision precision,
                     const LoadOptions& options)
    : precision_(precision),
      opened_(std::move(opened)),
      group_(world.split(0, world.rank(), "compute"), options.device),
      buffers_(group_.device()) {
  const model::WanConfig& config = weights().config;
  const sharding::MeshShape shape =
      sharding::resolve_mesh(options.mesh, world.size(), {.heads = config.heads, .ffn = config.ffn});
  require_memory(group_, opened_.units(), shape, precision, options.trainable,
                 weights().files.path().string());
  mesh_ = std::make_unique<sharding::Mesh>(shape, group_.comm());
  load(options.trainable);
}

void LoadedWan::load(bool trainable) {
  comm::Communicator& world = group_.comm();
  const auto start = std::chrono::steady_clock::now();
  const uint64_t memory = resident_memory(), read = bytes_read_by_process();
  const at::ScalarType type = compute_type(precision_);
  const sharding::NetworkBytes bytes =
      sharding::network_bytes(opened_.units(), mesh_->extents(), type, trainable);
  comm::run_agreed(world, [&] {
    network_ = std::make_unique<sharding::ShardedNetwork>("transformer", opened_.units(), *mesh_, type,
                                                          trainable, buffers_);
    model::load_weights(*network_, weights().files,
                        [&](const std::string& name) { return weights().spelling.of(name); });
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  double sums[] = {static_cast<double>(bytes_read_by_process() - read)};
  comm::sum(world, sums);
  const uint64_t peak = std::max(peak_resident_memory(), memory);
  report_ = {.seconds = comm::agree_slowest(world, took.count()),
             .bytes_read = std::llround(sums[0]),
             .file_bytes = static_cast<int64_t>(weights().files.data_bytes()),
             .shard_bytes = bytes.kept,
             .largest_unit = bytes.largest_unit,
             .peak_above_start = comm::agree_max(world, static_cast<int64_t>(peak - memory))};
  if (world.rank() == 0) {
    log_info(
        "loaded {} ({} naming, {:.2f} G parameters) on {} ranks in {:.2f} s; read {:.3f} times the tensors' "
        "{}",
        weights().files.path().string(), name(weights().spelling.naming),
        static_cast<double>(weights().parameters()) / 1e9, world.size(), report_.seconds,
        static_cast<double>(report_.bytes_read) / static_cast<double>(report_.file_bytes),
        gigabytes(static_cast<double>(report_.file_bytes)));
  }
}

void LoadedWan::close() {
  mesh_->close();
  group_.close();
}

}  // namespace tmd::orchestrator
