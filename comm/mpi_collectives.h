#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "comm/flow.h"
#include "comm/mpi_operation.h"

// The operations of MpiCommunicator as flows of messages. They are written with messages instead of the
// library's collectives so that reductions sum in rank order, stages of different operations may interleave,
// and nothing depends on how a library makes progress. Arguments are checked before. `operation` must outlive
// the flow, which keeps the tensors.
// Errors: a flow throws, when awaited, the failure of its first failed message (kPeerLost, kInternal).
// Thread: made on any, run on the progress thread.

namespace tmd::comm {

/// Every rank sends its input to every other. `input` [n], `output` [size * n].
Flow all_gather_flow(MpiOperation& operation, at::Tensor input, at::Tensor output);

/// In chunks through a small scratch buffer, so that a chunk is summed while the next ones travel. `input`
/// [size * n], `output` [n].
Flow reduce_scatter_flow(MpiOperation& operation, at::Tensor input, at::Tensor output, ReduceOp op);

/// In place. Tensors of at most 32 KiB: everybody gathers everything and sums. Others: each rank reduces its
/// part, then the parts are gathered.
Flow all_reduce_flow(MpiOperation& operation, at::Tensor tensor, ReduceOp op);

/// In place, along a binomial tree.
Flow broadcast_flow(MpiOperation& operation, at::Tensor tensor, int root);

/// `input` and `output` [size * n].
Flow all_to_all_flow(MpiOperation& operation, at::Tensor input, at::Tensor output);
Flow send_flow(MpiOperation& operation, at::Tensor tensor, int peer);
Flow receive_flow(MpiOperation& operation, at::Tensor tensor, int peer);
/// Dissemination, log2(size) rounds of empty messages.
Flow barrier_flow(MpiOperation& operation);

/// Blocks the progress thread until all ranks have come: call it when they are known to be on their way.
/// `group` gets the result (MpiGroup::split) and must outlive the flow.
Flow split_flow(MpiOperation& operation, int color, int key, std::unique_ptr<MpiGroup>& group);
/// Frees the handle of the operation's group; nothing may use the group after it.
Flow free_flow(MpiOperation& operation);

}  // namespace tmd::comm
