#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace tmd::comm {

// What the interface promises about the arguments of each operation, checked in one place for all host
// backends. Each function throws kInternal that names the operation, the communicator and the shapes.

void check_all_gather(const Communicator& comm, const at::Tensor& input, const at::Tensor& output);
void check_reduce_scatter(const Communicator& comm, const at::Tensor& input, const at::Tensor& output);
void check_all_reduce(const Communicator& comm, const at::Tensor& tensor);
void check_broadcast(const Communicator& comm, const at::Tensor& tensor, int root);
void check_all_to_all(const Communicator& comm, const at::Tensor& input, const at::Tensor& output);
/// `what` is "send" or "recv".
void check_message(const Communicator& comm, const char* what, const at::Tensor& tensor, int peer, int tag);

/// Tags of messages are smaller than this.
inline constexpr int kTagCount = 32768;

}  // namespace tmd::comm
