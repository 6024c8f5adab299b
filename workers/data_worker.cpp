#include "workers/data_worker.h"

#include <chrono>
#include <list>
#include <thread>

#include "workers/trainer_session.h"

namespace tmd::workers {
namespace {

// Batches lie ready at the trainers while the worker sleeps, so the length of the nap delays nobody.
constexpr auto kNap = std::chrono::microseconds(200);

}  // namespace

void run_data_worker(comm::Communicator& data, data::DataSet& data_set, std::span<const int> trainers,
                     const std::function<bool()>& stop_requested) {
  std::list<TrainerSession> sessions;
  for (const int trainer : trainers) sessions.emplace_back(data, data_set, trainer);
  while (!sessions.empty()) {
    bool has_progressed = false;
    for (TrainerSession& session : sessions) has_progressed |= session.serve(stop_requested());
    sessions.remove_if([](const TrainerSession& session) { return session.is_closed(); });
    if (!has_progressed) std::this_thread::sleep_for(kNap);
  }
}

}  // namespace tmd::workers
