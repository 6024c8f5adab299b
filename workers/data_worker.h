#pragma once

#include <functional>
#include <span>

#include "comm/communicator.h"
#include "data/data_set.h"

namespace tmd::workers {

/// The life of a data worker rank: serves the RemoteFeeds of `trainers` (ranks in `data`) in turn, one
/// micro-batch each, and returns when all of them have closed. A trainer that waits for nothing holds nobody
/// up.
///
/// Arguments are borrowed for the call. `stop_requested` is asked now and then; once it says true, the
/// trainers hear of it with their next batch (BatchFeed::stop_requested) and the worker serves on until they
/// close.
/// Errors: what goes wrong with data is thrown by the trainer's next(); here only errors of communication
/// (kPeerLost) and of the protocol (kInternal) are.
void run_data_worker(comm::Communicator& data, data::DataSet& data_set, std::span<const int> trainers,
                     const std::function<bool()>& stop_requested);

}  // namespace tmd::workers
