#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::comm {

/// Where self_check has the tensors that it hands to a communicator.
class SelfCheckMemory {
 public:
  virtual ~SelfCheckMemory() = default;
  /// A copy of `tensor`, of the CPU, which is there for work on the current stream.
  virtual at::Tensor put(const at::Tensor& tensor) = 0;
  /// A copy on the CPU of what is in `tensor` when the work on the current stream is done.
  virtual at::Tensor get(const at::Tensor& tensor) = 0;
};

/// On a device that ATen knows.
class DeviceMemory final : public SelfCheckMemory {
 public:
  explicit DeviceMemory(at::Device device) : device_(device) {}
  at::Tensor put(const at::Tensor& tensor) override;
  at::Tensor get(const at::Tensor& tensor) override;

 private:
  at::Device device_;
};

/// Holds a communicator against the contract of comm/communicator.h: every operation, element type and
/// reduction, in and out of place, odd and large sizes, many operations under way, order, groups, messages
/// with tags, equal bits. Returns one line for each thing that this rank found wrong; they begin with the
/// operation. Takes about a second on a few ranks of one machine. Uses tags 0, 9 and 32767. Collective over:
/// the communicator. Throws what operations throw.
std::vector<std::string> self_check(Communicator& comm, SelfCheckMemory& memory);
/// With tensors of the CPU.
std::vector<std::string> self_check(Communicator& comm);

}  // namespace tmd::comm
