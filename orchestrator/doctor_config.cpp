#include "orchestrator/doctor_config.h"

#include <algorithm>
#include <fmt/format.h>
#include <functional>

#include "comm/agree.h"
#include "comm/single_communicator.h"
#include "data/data_set.h"
#include "orchestrator/doctor.h"
#include "orchestrator/job.h"
#include "orchestrator/training_state.h"
#include "workers/roles.h"
#include "workers/stage_networks.h"

namespace tmd::orchestrator {
namespace {

// What `action` gives as text, or what it fails with, as a finding that all ranks have. Collective over:
// `world`.
Finding agreed(comm::Communicator& world, const std::string& name,
               const std::function<std::string()>& action) {
  std::string text;
  try {
    comm::run_agreed(world, [&] { text = action(); });
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kPeerLost) throw;
    return error("program", name, e);
  }
  return fine("program", name, text);
}

Finding same_config(comm::Communicator& world, const LoadedConfig& loaded) {
  try {
    comm::agree_equal(world, loaded.table->resolved_ini(), "the configuration");
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kPeerLost) throw;
    return error("program", "configuration", e);
  }
  return fine("program", "configuration", "can be read, and is the same on " + counted(world.size(), "rank"));
}

std::string open_data(configs::Config& config) {
  if (config.data.files.empty()) return "data.files is empty: no data was looked at";
  const data::DataSet set(data::resolve_files(config.data.files));
  fit_to_data(config, set.header());
  return fmt::format("{} samples that fit the model, seen by every rank", set.size());
}

std::string cut(const configs::Config& config, int ranks) {
  const workers::RoleLayout roles = workers::lay_out_roles(ranks, static_cast<int>(config.data_workers));
  const sharding::MeshShape mesh = mesh_of(config, roles.trainers);
  feed_plan(config, mesh, 0, 0);
  return fmt::format("{}, {}, {}", counted(roles.trainers, "trainer"),
                     counted(roles.data_workers, "data worker"), mesh.to_string());
}

}  // namespace

ConfigCheck check_config(comm::Communicator& world, const std::vector<std::string>& files,
                         const std::vector<std::string>& settings) {
  ConfigCheck result;
  if (files.empty() && settings.empty()) {
    result.findings.push_back(
        fine("program", "configuration", "none was given: --config FILE checks one, its data and its mesh"));
    return result;
  }
  const auto is_error = [&] { return result.findings.back().severity == Severity::kError; };
  result.findings.push_back(agreed(world, "configuration", [&] {
    result.loaded = load_config(files, settings);
    return std::string();
  }));
  if (is_error()) {
    result.loaded.reset();
    return result;
  }
  result.findings.back() = same_config(world, *result.loaded);
  if (is_error()) return result;
  configs::Config& config = result.loaded->config;
  result.findings.push_back(agreed(world, "data", [&] { return open_data(config); }));
  result.is_complete = !is_error();
  result.findings.push_back(agreed(world, "mesh", [&] { return cut(config, world.size()); }));
  return result;
}

uint64_t checkpoint_bytes(const configs::Config& config) {
  comm::SingleCommunicator alone("checkpoint size");
  sharding::Mesh mesh({.shard = 1}, alone);
  workers::StageNetworks networks(configs::network_plan(config), config.stages, mesh,
                                  compute_type(config.train), config.run.seed, 0, at::kMeta);
  uint64_t largest = 0;
  for (workers::Stage stage : config.stage_list()) {
    networks.allocate(stage);
    largest = std::max(largest, static_cast<uint64_t>(checkpoint_bytes(mesh, networks)));
  }
  mesh.close();
  alone.close();
  return largest;
}

}  // namespace tmd::orchestrator
