#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "comm/flow.h"
#include "comm/mpi_operation.h"
#include "comm/node_window.h"

// The collectives of MpiCommunicator through the memory of one node (comm/node_window.h): every rank copies
// its data into its own slots, chunk after chunk, and takes or reduces what it needs out of the slots of the
// others, while they are in the cache. Arguments are checked before; tensors as in comm/mpi_collectives.h.
// Reductions combine in rank order. A flow is awaited inside `through_window`. Errors: none of their own: a
// rank that does not come leaves the others waiting, as with messages. Thread: made on any, run on the
// progress thread.

namespace tmd::comm {

/// Runs `by_window` in the window's turn, having opened it at the first time, or `by_messages` where the
/// ranks share no memory. Both belong to `operation`. Errors: those of messages.
Flow through_window(MpiOperation& operation, NodeWindow& window, Flow by_window, Flow by_messages);

Flow all_gather_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor input, at::Tensor output);
Flow reduce_scatter_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor input,
                              at::Tensor output, ReduceOp op);
Flow all_reduce_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor tensor, ReduceOp op);
Flow broadcast_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor tensor, int root);
Flow all_to_all_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor input, at::Tensor output);

}  // namespace tmd::comm
