#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "comm/flow.h"
#include "comm/mpi_operation.h"

// The operations of MpiCommunicator as flows of messages. They are written with messages instead of the
// library's collectives so that reductions sum in rank order, stages of different operations may interleave,
// and nothing depends on how a library makes progress. Arguments are checked before.
// Thread: made on any, run on the progress thread.

namespace tmd::comm {

Flow all_gather_flow(MpiOperation& operation, at::Tensor input, at::Tensor output);

/// In chunks through a small scratch buffer, so that a chunk is summed while the next ones travel.
Flow reduce_scatter_flow(MpiOperation& operation, at::Tensor input, at::Tensor output, ReduceOp op);

/// Small tensors: everybody gathers everything and sums. Others: each rank reduces its part, then the parts
/// are gathered.
Flow all_reduce_flow(MpiOperation& operation, at::Tensor tensor, ReduceOp op);

/// Along a binomial tree.
Flow broadcast_flow(MpiOperation& operation, at::Tensor tensor, int root);

Flow all_to_all_flow(MpiOperation& operation, at::Tensor input, at::Tensor output);
Flow send_flow(MpiOperation& operation, at::Tensor tensor, int peer);
Flow receive_flow(MpiOperation& operation, at::Tensor tensor, int peer);
Flow barrier_flow(MpiOperation& operation);

/// Blocks the progress thread until all ranks have come: call it when they are known to be on their way.
/// `group` gets the result.
Flow split_flow(MpiOperation& operation, int color, int key, std::unique_ptr<MpiGroup>& group);
Flow free_flow(MpiOperation& operation);

}  // namespace tmd::comm
