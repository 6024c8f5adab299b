#include "comm/mpi_communicator.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/arguments.h"
#include "comm/library_collectives.h"
#include "comm/mpi_collectives.h"
#include "comm/reduction.h"
#include "comm/single_communicator.h"
#include "comm/window_collectives.h"

namespace tmd::comm {

MpiCommunicator::MpiCommunicator(MpiProgressThread& thread, std::unique_ptr<MpiGroup> group, std::string name,
                                 std::optional<Algorithm> forced)
    : thread_(thread), group_(std::move(group)), forced_(forced), name_(std::move(name)) {
  if (group_->is_on_one_node() && group_->size() <= kMaxWindowRanks &&
      (!forced_ || forced_ == Algorithm::kWindow))
    window_ = std::make_unique<NodeWindow>(group_->rank(), group_->size());
}

MpiCommunicator::~MpiCommunicator() {
  if (!group_) return;
  log_warning("communicator '{}' was not closed: its handle is leaked", name_);
  // Operations on it may still be under way.
  (void)group_.release();
  (void)window_.release();
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

Work MpiCommunicator::start(std::shared_ptr<MpiOperation> operation, Flow by_window, Flow by_messages) {
  MpiOperation& started = *operation;
  return start(std::move(operation),
               through_window(started, *window_, std::move(by_window), std::move(by_messages)));
}

Work MpiCommunicator::all_gather(const at::Tensor& input, const at::Tensor& output) {
  check_all_gather(*this, input, output);
  auto operation = collective(OperationKind::kAllGather, input.numel());
  if (forced_ == Algorithm::kLibrary)
    return start(operation, all_gather_by_library(*operation, input, output));
  Flow by_messages = all_gather_flow(*operation, input, output);
  if (!window_) return start(operation, std::move(by_messages));
  return start(operation, all_gather_in_window(*operation, *window_, input, output), std::move(by_messages));
}

Work MpiCommunicator::reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) {
  check_reduce_scatter(*this, input, output);
  (void)Reduction(input.scalar_type(), op);  // refused here, not on the progress thread
  auto operation = collective(OperationKind::kReduceScatter, output.numel());
  if (forced_ == Algorithm::kLibrary)
    return start(operation, reduce_scatter_by_library(*operation, input, output, op));
  Flow by_messages = reduce_scatter_flow(*operation, input, output, op);
  if (!window_) return start(operation, std::move(by_messages));
  return start(operation, reduce_scatter_in_window(*operation, *window_, input, output, op),
               std::move(by_messages));
}

Work MpiCommunicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  check_all_reduce(*this, tensor);
  (void)Reduction(tensor.scalar_type(), op);
  auto operation = collective(OperationKind::kAllReduce, tensor.numel());
  if (forced_ == Algorithm::kLibrary) return start(operation, all_reduce_by_library(*operation, tensor, op));
  Flow by_messages = all_reduce_flow(*operation, tensor, op);
  if (!window_) return start(operation, std::move(by_messages));
  return start(operation, all_reduce_in_window(*operation, *window_, tensor, op), std::move(by_messages));
}

Work MpiCommunicator::broadcast(const at::Tensor& tensor, int root) {
  check_broadcast(*this, tensor, root);
  auto operation = collective(OperationKind::kBroadcast, tensor.numel(), root);
  if (forced_ == Algorithm::kLibrary) return start(operation, broadcast_by_library(*operation, tensor, root));
  Flow by_messages = broadcast_flow(*operation, tensor, root);
  if (!window_) return start(operation, std::move(by_messages));
  return start(operation, broadcast_in_window(*operation, *window_, tensor, root), std::move(by_messages));
}

Work MpiCommunicator::all_to_all(const at::Tensor& input, const at::Tensor& output) {
  check_all_to_all(*this, input, output);
  auto operation = collective(OperationKind::kAllToAll, input.numel());
  if (forced_ == Algorithm::kLibrary)
    return start(operation, all_to_all_by_library(*operation, input, output));
  Flow by_messages = all_to_all_flow(*operation, input, output);
  const bool is_large = input.nbytes() > kWindowAllToAll && forced_ != Algorithm::kWindow;
  if (!window_ || is_large) return start(operation, std::move(by_messages));
  return start(operation, all_to_all_in_window(*operation, *window_, input, output), std::move(by_messages));
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
  return split(color, key, name, forced_);
}

std::unique_ptr<Communicator> MpiCommunicator::split(int color, int key, const std::string& name,
                                                     std::optional<Algorithm> forced) {
  check(color >= 0, ErrorKind::kInternal, fmt::format("split of '{}': color {} is negative", name_, color));
  const at::Tensor colors = at::full({size()}, color, at::kLong);  // [size]
  // Also makes sure that all ranks are on their way: the library's split blocks.
  all_gather(colors.narrow(0, rank(), 1), colors).wait();
  const bool is_alone = colors.eq(color).sum().item<int64_t>() == 1;
  std::unique_ptr<MpiGroup> group;
  auto operation = collective(OperationKind::kSplit, 0);
  start(operation, split_flow(*operation, is_alone ? -1 : color, key, group)).wait();
  if (is_alone) return std::make_unique<SingleCommunicator>(name, &thread_.journal());
  return std::make_unique<MpiCommunicator>(thread_, std::move(group), name, forced);
}

std::unique_ptr<Communicator> MpiCommunicator::with_algorithm(Algorithm algorithm, const std::string& name) {
  std::unique_ptr<Communicator> made = split(0, rank(), name, algorithm);
  if (algorithm != Algorithm::kWindow) return made;
  const auto& window = static_cast<MpiCommunicator&>(*made).window_;
  if (window) made->all_reduce(at::zeros({1}), ReduceOp::kSum).wait();  // opens it
  if (window && window->is_usable()) return made;
  made->close();
  return nullptr;
}

std::unique_ptr<Communicator> with_algorithm(Communicator& comm, Algorithm algorithm,
                                             const std::string& name) {
  if (comm.size() == 1) return algorithm == Algorithm::kMessages ? comm.split(0, 0, name) : nullptr;
  auto* mpi = dynamic_cast<MpiCommunicator*>(&comm);
  check(mpi != nullptr, ErrorKind::kInternal,
        fmt::format("communicator '{}' has no choice of algorithms", comm.name()));
  return mpi->with_algorithm(algorithm, name);
}

const char* name(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kMessages:
      return "messages";
    case Algorithm::kWindow:
      return "window";
    case Algorithm::kLibrary:
      return "library";
  }
  return "unknown";
}

void MpiCommunicator::close() {
  barrier();
  const int unfinished = group_->unfinished_operations;
  check(unfinished == 0, ErrorKind::kInternal,
        fmt::format("communicator '{}' is closed with {} operations under way", name_, unfinished));
  auto operation = collective(OperationKind::kClose, 0);
  start(operation, free_flow(*operation)).wait();
  group_.reset();
  window_.reset();
}

void MpiCommunicator::mark(std::string_view position) { thread_.journal().set_phase(position); }

Journal* MpiCommunicator::journal() { return &thread_.journal(); }

void MpiCommunicator::abort(int code) noexcept { thread_.abort(code); }

}  // namespace tmd::comm
