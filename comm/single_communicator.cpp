#include "comm/single_communicator.h"

#include <atomic>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "comm/arguments.h"
#include "comm/reduction.h"

namespace tmd::comm {
namespace {

// Equal types and element counts.
void copy_elements(const at::Tensor& from, const at::Tensor& to) {
  if (from.nbytes() == 0 || from.const_data_ptr() == to.const_data_ptr()) return;
  if (from.is_cpu() && to.is_cpu()) {
    std::memmove(to.data_ptr(), from.const_data_ptr(), from.nbytes());
  } else {
    const at::NoGradGuard no_grad;
    to.view({-1}).copy_(from.view({-1}), /*non_blocking=*/true);
  }
}

}  // namespace

/// A receive that completes when the rank sends itself the message.
class SingleCommunicator::Receipt final : public Operation {
 public:
  Receipt(at::Tensor to, std::string what) : to_(std::move(to)), what_(std::move(what)) {}

  void deliver(const at::Tensor& message) {
    const bool fits = message.scalar_type() == to_.scalar_type() && message.numel() == to_.numel();
    if (fits) copy_elements(message, to_);
    state_ = fits ? State::kDelivered : State::kMismatch;
  }
  void wait() override {
    check(state_ != State::kPending, ErrorKind::kInternal,
          what_ + " waits for a message that nobody has sent");
    check(state_ != State::kMismatch, ErrorKind::kInternal, what_ + " got a message of another size or type");
  }
  bool is_done() override { return state_ != State::kPending; }

 private:
  enum class State { kPending, kDelivered, kMismatch };

  at::Tensor to_;  // any shape
  std::string what_;
  State state_ = State::kPending;
};

SingleCommunicator::SingleCommunicator(std::string name, Journal* journal, at::Device device)
    : name_(std::move(name)), journal_(journal), device_(device) {}

SingleCommunicator::~SingleCommunicator() = default;

// Where all tensors of a call must be.
at::Device SingleCommunicator::place_of(const at::Tensor& tensor) const {
  return tensor.defined() && tensor.device() == device_ ? device_ : at::Device(at::kCPU);
}

void SingleCommunicator::enter(OperationKind kind, int64_t elements, int peer, int tag) {
  if (!journal_) return;
  const uint64_t sequence = journal_->enter(kind, name_, elements, peer, tag);
  journal_->mark_started(sequence);
  journal_->mark_finished(sequence);
}

Work SingleCommunicator::all_gather(const at::Tensor& input, const at::Tensor& output) {
  check_all_gather(*this, input, output, place_of(input));
  enter(OperationKind::kAllGather, input.numel());
  copy_elements(input, output);
  return {};
}

Work SingleCommunicator::reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) {
  check_reduce_scatter(*this, input, output, place_of(input));
  (void)Reduction(input.scalar_type(), op);  // refuses here what it refuses on several ranks
  enter(OperationKind::kReduceScatter, output.numel());
  copy_elements(input, output);
  return {};
}

Work SingleCommunicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  check_all_reduce(*this, tensor, place_of(tensor));
  (void)Reduction(tensor.scalar_type(), op);
  enter(OperationKind::kAllReduce, tensor.numel());
  return {};
}

Work SingleCommunicator::broadcast(const at::Tensor& tensor, int root) {
  check_broadcast(*this, tensor, root, place_of(tensor));
  enter(OperationKind::kBroadcast, tensor.numel(), root);
  return {};
}

Work SingleCommunicator::all_to_all(const at::Tensor& input, const at::Tensor& output) {
  check_all_to_all(*this, input, output, place_of(input));
  enter(OperationKind::kAllToAll, input.numel());
  copy_elements(input, output);
  return {};
}

Work SingleCommunicator::send(const at::Tensor& tensor, int peer, int tag) {
  check_message(*this, "send", tensor, peer, tag, place_of(tensor));
  enter(OperationKind::kSend, tensor.numel(), peer, tag);
  std::deque<std::shared_ptr<Receipt>>& awaited = awaited_[tag];
  if (awaited.empty()) {
    sent_[tag].push_back(tensor.clone());
  } else {
    awaited.front()->deliver(tensor);
    awaited.pop_front();
  }
  return {};
}

Work SingleCommunicator::recv(const at::Tensor& tensor, int peer, int tag) {
  check_message(*this, "recv", tensor, peer, tag, place_of(tensor));
  enter(OperationKind::kRecv, tensor.numel(), peer, tag);
  auto receipt = std::make_shared<Receipt>(
      tensor, fmt::format("recv of tag {} on communicator '{}' (one rank)", tag, name_));
  std::deque<at::Tensor>& sent = sent_[tag];
  if (sent.empty()) {
    awaited_[tag].push_back(receipt);
  } else {
    receipt->deliver(sent.front());
    sent.pop_front();
  }
  return Work(receipt);
}

void SingleCommunicator::barrier() { enter(OperationKind::kBarrier, 0); }

std::unique_ptr<Communicator> SingleCommunicator::split(int color, int, const std::string& name) {
  check(color >= 0, ErrorKind::kInternal, fmt::format("split of '{}': color {} is negative", name_, color));
  enter(OperationKind::kSplit, 0);
  return std::make_unique<SingleCommunicator>(name, journal_, device_);
}

void SingleCommunicator::close() { enter(OperationKind::kClose, 0); }

void SingleCommunicator::mark(std::string_view position) {
  if (journal_) journal_->set_phase(position);
}

}  // namespace tmd::comm
