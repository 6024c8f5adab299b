#include "comm/mpi_communicator.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/arguments.h"
#include "comm/mpi_collectives.h"
#include "comm/reduction.h"
#include "comm/single_communicator.h"

namespace tmd::comm {

MpiCommunicator::MpiCommunicator(MpiProgressThread& thread, std::unique_ptr<MpiGroup> group, std::string name)
    : thread_(thread), group_(std::move(group)), name_(std::move(name)) {}

MpiCommunicator::~MpiCommunicator() {
  if (!group_) return;
  log_warning("communicator '{}' was not closed: its handle is leaked", name_);
  // Operations on it may still be under way.
  (void)group_.release();
}

std::shared_ptr<MpiOperation> MpiCommunicator::message(OperationKind kind, int64_t elements, int peer,
                                                       int tag) {
  const uint64_t entry = thread_.journal().enter(kind, name_, elements, peer, tag);
  return std::make_shared<MpiOperation>(thread_, *group_, tag, entry);
}

// Messages of collectives have tags of their own above those of the callers. One is used again after
// kTagCount collectives, when the earlier operation must be over.
std::shared_ptr<MpiOperation> MpiCommunicator::collective(OperationKind kind, int64_t elements, int root) {
  check(group_->unfinished_operations < kTagCount, ErrorKind::kInternal,
        fmt::format("communicator '{}' has {} unfinished operations", name_,
                    group_->unfinished_operations.load()));
  const int tag = kTagCount + static_cast<int>(collectives_++ % kTagCount);
  const uint64_t entry = thread_.journal().enter(kind, name_, elements, root);
  return std::make_shared<MpiOperation>(thread_, *group_, tag, entry);
}

Work MpiCommunicator::start(std::shared_ptr<MpiOperation> operation, Flow flow) {
  thread_.start(operation, std::move(flow));
  return Work(std::move(operation));
}

Work MpiCommunicator::all_gather(const at::Tensor& input, const at::Tensor& output) {
  check_all_gather(*this, input, output);
  auto operation = collective(OperationKind::kAllGather, input.numel());
  return start(operation, all_gather_flow(*operation, input, output));
}

Work MpiCommunicator::reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) {
  check_reduce_scatter(*this, input, output);
  (void)Reduction(input.scalar_type(), op);  // refused here, not on the progress thread
  auto operation = collective(OperationKind::kReduceScatter, output.numel());
  return start(operation, reduce_scatter_flow(*operation, input, output, op));
}

Work MpiCommunicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  check_all_reduce(*this, tensor);
  (void)Reduction(tensor.scalar_type(), op);
  auto operation = collective(OperationKind::kAllReduce, tensor.numel());
  return start(operation, all_reduce_flow(*operation, tensor, op));
}

Work MpiCommunicator::broadcast(const at::Tensor& tensor, int root) {
  check_broadcast(*this, tensor, root);
  auto operation = collective(OperationKind::kBroadcast, tensor.numel(), root);
  return start(operation, broadcast_flow(*operation, tensor, root));
}

Work MpiCommunicator::all_to_all(const at::Tensor& input, const at::Tensor& output) {
  check_all_to_all(*this, input, output);
  auto operation = collective(OperationKind::kAllToAll, input.numel());
  return start(operation, all_to_all_flow(*operation, input, output));
}

Work MpiCommunicator::send(const at::Tensor& tensor, int peer, int tag) {
  check_message(*this, "send", tensor, peer, tag);
  auto operation = message(OperationKind::kSend, tensor.numel(), peer, tag);
  return start(operation, send_flow(*operation, tensor, peer));
}

Work MpiCommunicator::recv(const at::Tensor& tensor, int peer, int tag) {
  check_message(*this, "recv", tensor, peer, tag);
  auto operation = message(OperationKind::kRecv, tensor.numel(), peer, tag);
  return start(operation, receive_flow(*operation, tensor, peer));
}

void MpiCommunicator::barrier() {
  auto operation = collective(OperationKind::kBarrier, 0);
  start(operation, barrier_flow(*operation)).wait();
}

std::unique_ptr<Communicator> MpiCommunicator::split(int color, int key, const std::string& name) {
  check(color >= 0, ErrorKind::kInternal, fmt::format("split of '{}': color {} is negative", name_, color));
  const at::Tensor colors = at::full({size()}, color, at::kLong);  // [size]
  // Also makes sure that all ranks are on their way: the library's split blocks.
  all_gather(colors.narrow(0, rank(), 1), colors).wait();
  const bool is_alone = colors.eq(color).sum().item<int64_t>() == 1;
  std::unique_ptr<MpiGroup> group;
  auto operation = collective(OperationKind::kSplit, 0);
  start(operation, split_flow(*operation, is_alone ? -1 : color, key, group)).wait();
  if (is_alone) return std::make_unique<SingleCommunicator>(name, &thread_.journal());
  return std::make_unique<MpiCommunicator>(thread_, std::move(group), name);
}

void MpiCommunicator::close() {
  barrier();
  const int unfinished = group_->unfinished_operations;
  check(unfinished == 0, ErrorKind::kInternal,
        fmt::format("communicator '{}' is closed with {} operations under way", name_, unfinished));
  auto operation = collective(OperationKind::kClose, 0);
  start(operation, free_flow(*operation)).wait();
  group_.reset();
}

}  // namespace tmd::comm
