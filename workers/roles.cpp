#include "workers/roles.h"

#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::workers {

int RoleLayout::worker_of(int trainer) const {
  ensure(data_workers > 0 && trainer >= 0 && trainer < trainers, "a data worker serves the trainer");
  return trainers + trainer % data_workers;
}

std::vector<int> RoleLayout::trainers_of(int rank) const {
  ensure(rank >= trainers && rank < trainers + data_workers, "a data worker is asked whom it serves");
  std::vector<int> served;
  for (int trainer = rank - trainers; trainer < trainers; trainer += data_workers) served.push_back(trainer);
  return served;
}

RoleLayout lay_out_roles(int world_size, int data_workers) {
  check(data_workers >= 0, ErrorKind::kConfig, fmt::format("mesh.data_workers is {}", data_workers),
        "it counts the ranks that only read data; 0: each trainer reads for itself");
  const int trainers = world_size - data_workers;
  check(trainers >= 1, ErrorKind::kConfig,
        fmt::format("{} ranks with mesh.data_workers = {} leave nobody to train", world_size, data_workers),
        "start more ranks or lower mesh.data_workers");
  check(data_workers <= trainers, ErrorKind::kConfig,
        fmt::format(
            "{} ranks with mesh.data_workers = {}: {} trainers for {} data workers, of which some would "
            "serve nobody",
            world_size, data_workers, trainers, data_workers),
        fmt::format("set mesh.data_workers to at most {}", world_size / 2));
  return {trainers, data_workers};
}

Roles assign_roles(comm::Communicator& world, int data_workers) {
  Roles roles;
  roles.layout = lay_out_roles(world.size(), data_workers);
  roles.role = roles.layout.role_of(world.rank());
  const bool is_trainer = roles.role == Role::kTrainer;
  roles.peers = world.split(is_trainer ? 0 : 1, world.rank(), is_trainer ? "trainers" : "data_workers");
  roles.data = world.split(0, world.rank(), "data");
  return roles;
}

void Roles::close() {
  data->close();
  if (peers) peers->close();
}

}  // namespace tmd::workers
