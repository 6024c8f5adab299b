#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "comm/flow.h"
#include "comm/mpi_operation.h"

// The collectives of the MPI library as flows (Algorithm::kLibrary). Arguments are checked before; tensors as
// in comm/mpi_collectives.h. Errors: those of messages. Thread: made on any, run on the progress thread.

namespace tmd::comm {

Flow all_gather_by_library(MpiOperation& operation, at::Tensor input, at::Tensor output);
Flow reduce_scatter_by_library(MpiOperation& operation, at::Tensor input, at::Tensor output, ReduceOp op);
Flow all_reduce_by_library(MpiOperation& operation, at::Tensor tensor, ReduceOp op);
Flow broadcast_by_library(MpiOperation& operation, at::Tensor tensor, int root);
Flow all_to_all_by_library(MpiOperation& operation, at::Tensor input, at::Tensor output);

}  // namespace tmd::comm
