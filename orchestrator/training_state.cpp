#include "orchestrator/training_state.h"

#include <fmt/format.h>
#include <ranges>

#include <ATen/ATen.h>

#include "base/error.h"
#include "orchestrator/run_folder.h"
#include "workers/device.h"

namespace tmd::orchestrator {
namespace {

using nlohmann::json;
using workers::NetworkRole;
using workers::Stage;

// One flat tensor of the state with its name in the checkpoint, e.g. "student.blocks.0.adam_first".
struct NamedShard {
  std::string key;
  int rank = 0;  ///< of those that have the same bits: the first one in the world, which writes
  at::Tensor values;
  std::vector<sharding::ShardSegment> segments;
};

// Frozen networks in bfloat16 have no masters: each part is stored as it is kept.
void add_parts(std::vector<NamedShard>& list, const std::string& prefix, int rank,
               const sharding::UnitShard& shard, const sharding::FlatLayout& layout) {
  for (size_t i = 0; i < shard.parts.size(); ++i) {
    NamedShard& part = list.emplace_back(fmt::format("{}part{}", prefix, i), rank, shard.parts[i],
                                         std::vector<sharding::ShardSegment>());
    for (sharding::ShardSegment segment : shard.segments) {
      if (segment.part != static_cast<int>(i)) continue;
      segment.shard_offset -= layout.parts()[i].shard_begin;
      part.segments.push_back(std::move(segment));
    }
  }
}

// The networks that are frozen, or updated more seldom, come last.
std::vector<NamedShard> named_shards(workers::StageNetworks& networks) {
  std::vector<NamedShard> list;
  for (auto& [role, trained] : std::views::reverse(networks.all())) {
    const int rank = trained.network->state_group().rank();
    for (int unit = 0; unit < trained.network->units(); ++unit) {
      sharding::UnitShard& shard = trained.network->shard(unit);
      const std::string prefix = fmt::format("{}.{}.", name(role), trained.network->spec(unit).name);
      const auto add = [&](const char* what, const at::Tensor& values) {
        list.push_back({prefix + what, rank, values, shard.segments});
      };
      if (!shard.master.defined()) {
        add_parts(list, prefix, rank, shard, trained.network->layout(unit));
        continue;
      }
      add("master", shard.master);
      if (trained.optimizer) {
        add("adam_first", trained.optimizer->first_moment(unit));
        add("adam_second", trained.optimizer->second_moment(unit));
      }
      if (trained.average) add("average", trained.average->shard(unit));
    }
  }
  return list;
}

const char* dtype_name(at::ScalarType type) {
  if (type == at::kBFloat16) return "BF16";
  return type == at::kDouble ? "F64" : "F32";
}

// `Bytes`: a span over the tensors' memory, wherever that is.
template <class Part, class Bytes>
std::vector<Part> parts_of(const std::vector<NamedShard>& shards) {
  std::vector<Part> parts;
  for (const NamedShard& shard : shards) {
    const size_t width = shard.values.element_size();
    Part& part = parts.emplace_back();
    part.key = shard.key;
    part.dtype = dtype_name(shard.values.scalar_type());
    for (const sharding::ShardSegment& segment : shard.segments) {
      part.slices.push_back({segment.slice, static_cast<uint64_t>(segment.shard_offset) * width});
    }
    part.bytes = Bytes(static_cast<typename Bytes::pointer>(shard.values.data_ptr()), shard.values.nbytes());
  }
  return parts;
}

// The same shards on the host, where files are read to; those that lie there are taken as they are.
std::vector<NamedShard> on_host(const std::vector<NamedShard>& shards) {
  std::vector<NamedShard> host = shards;
  for (NamedShard& shard : host) {
    if (!shard.values.is_cpu()) shard.values = at::empty_like(shard.values, at::kCPU);
  }
  return host;
}

Stage stage_named(const std::string& text) {
  for (Stage stage : {Stage::kTeacher, Stage::kStage1, Stage::kKd, Stage::kStage2}) {
    if (name(stage) == text) return stage;
  }
  throw Error(ErrorKind::kData, "the checkpoint is of an unknown stage " + text);
}

}  // namespace

json to_json(const RunCounters& counters, const workers::StageNetworks& networks) {
  json quarantine = json::array();
  for (const workers::BadSample& bad : counters.quarantine) {
    quarantine.push_back({{"sample", bad.sample}, {"name", bad.name}, {"problem", bad.problem}});
  }
  json steps = json::object();
  for (const auto& [role, trained] : networks.all()) {
    if (trained.optimizer) steps[name(role)] = trained.optimizer->steps();
  }
  return {{"stage", name(networks.stage())},
          {"iteration", counters.iteration},
          {"student_updates", counters.student_updates},
          {"nonfinite_in_row", counters.nonfinite_in_row},
          {"nonfinite_total", counters.nonfinite_total},
          {"optimizer_steps", steps},
          {"quarantine", quarantine}};
}

namespace {

std::vector<NamedShard> shards_to_write(const sharding::Mesh& mesh, workers::StageNetworks& networks) {
  std::vector<NamedShard> shards = named_shards(networks);
  std::erase_if(shards, [&](const NamedShard& shard) { return shard.rank != mesh.world().rank(); });
  return shards;
}

std::vector<checkpoint::LocalPart> local_parts(const sharding::Mesh& mesh, workers::StageNetworks& networks) {
  const std::vector<NamedShard> shards = shards_to_write(mesh, networks);
  auto parts = parts_of<checkpoint::LocalPart, std::span<const std::byte>>(shards);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!shards[i].values.is_cpu()) parts[i].device = shards[i].values.device().index();
  }
  return parts;
}

}  // namespace

std::unique_ptr<checkpoint::BackgroundSave> begin_checkpoint(
    const checkpoint::Store& store, const sharding::Mesh& mesh, uint64_t experiment_hash,
    workers::StageNetworks& networks, const RunCounters& counters, checkpoint::SaveHooks hooks,
    const std::vector<NetworkRole>& changing) {
  std::vector<std::string> groups;
  for (const NetworkRole role : changing) groups.push_back(name(role));
  const checkpoint::Description description{.step = counters.iteration,
                                            .mesh = mesh.shape(),
                                            .experiment_hash = experiment_hash,
                                            .code_version = code_version(),
                                            .state = to_json(counters, networks)};
  workers::synchronize(networks.buffers().device());  // writers read its memory without asking
  return std::make_unique<checkpoint::BackgroundSave>(mesh.world(), store.folder(counters.iteration),
                                                      description, local_parts(mesh, networks),
                                                      std::move(hooks), std::move(groups));
}

int64_t checkpoint_bytes(const sharding::Mesh& mesh, workers::StageNetworks& networks) {
  int64_t bytes = 0;
  for (const NamedShard& shard : shards_to_write(mesh, networks))
    bytes += static_cast<int64_t>(shard.values.nbytes());
  return bytes;
}

RunCounters load_checkpoint(const checkpoint::Store& store, int64_t step, const sharding::Mesh& mesh,
                            workers::StageNetworks& networks) {
  // The ranks that hold the state once between them.
  comm::Communicator& readers = mesh.extents().pieces > 1 ? mesh.world() : mesh.copy_group();
  std::vector<NamedShard> shards, host;
  const auto make_parts = [&](const checkpoint::Description& of) {
    networks.allocate(stage_named(of.state.at("stage")));
    shards = named_shards(networks);
    host = on_host(shards);
    return parts_of<checkpoint::PartToLoad, std::span<std::byte>>(host);
  };
  const checkpoint::Description description =
      checkpoint::load(mesh.world(), readers, store.folder(step), make_parts);
  for (size_t i = 0; i < shards.size(); ++i) {
    if (!shards[i].values.is_cpu()) shards[i].values.copy_(host[i].values);
  }
  const json& state = description.state;
  for (auto& [role, trained] : networks.all()) {
    trained.network->publish();
    if (trained.optimizer) trained.optimizer->set_steps(state.at("optimizer_steps").at(name(role)));
  }
  RunCounters counters{.iteration = state.at("iteration"),
                       .student_updates = state.at("student_updates"),
                       .nonfinite_in_row = state.at("nonfinite_in_row"),
                       .nonfinite_total = state.at("nonfinite_total"),
                       .quarantine = {}};
  for (const json& bad : state.at("quarantine")) {
    counters.quarantine.push_back({bad.at("sample"), bad.at("name"), bad.at("problem")});
  }
  return counters;
}

}  // namespace tmd::orchestrator
