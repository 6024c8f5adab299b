#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace tmd::comm {

// What the interface promises about the arguments of each operation, checked in one place for all backends.
// Each function throws kInternal that names the operation, the communicator and the shapes. Tensors must be
// defined, contiguous, on `device` and of an element type that can be moved (comm/communicator.h); whether it
// can be reduced is checked by Reduction. No communication: that the ranks agree is not checked.

/// Equal types; `output` has size() times the elements of `input`. They are apart, or `input` is this rank's
/// slice of `output`.
void check_all_gather(const Communicator& comm, const at::Tensor& input, const at::Tensor& output,
                      at::Device device = at::kCPU);
/// Equal types; `input` has size() times the elements of `output`, and they are apart.
void check_reduce_scatter(const Communicator& comm, const at::Tensor& input, const at::Tensor& output,
                          at::Device device = at::kCPU);
void check_all_reduce(const Communicator& comm, const at::Tensor& tensor, at::Device device = at::kCPU);
/// `root` is a rank of the group.
void check_broadcast(const Communicator& comm, const at::Tensor& tensor, int root,
                     at::Device device = at::kCPU);
/// Equal types and element counts, a multiple of size(); apart.
void check_all_to_all(const Communicator& comm, const at::Tensor& input, const at::Tensor& output,
                      at::Device device = at::kCPU);
/// `peer` is a rank of the group, 0 <= tag < kTagCount. `what` is "send" or "recv".
void check_message(const Communicator& comm, const char* what, const at::Tensor& tensor, int peer, int tag,
                   at::Device device = at::kCPU);

/// Tags of messages are smaller than this.
inline constexpr int kTagCount = 32768;

}  // namespace tmd::comm
