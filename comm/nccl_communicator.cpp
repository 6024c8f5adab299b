#include "comm/nccl_communicator.h"

#include <cstring>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"
#include "comm/arguments.h"
#include "comm/nccl_messages.h"
#include "comm/reduction.h"
#include "comm/single_communicator.h"

namespace tmd::comm {
namespace {

constexpr std::chrono::seconds kAbortTimeout{5};

NcclType type_of(at::ScalarType type) {
  switch (type) {
    case at::kByte:
      return NcclType::kUint8;
    case at::kInt:
      return NcclType::kInt32;
    case at::kLong:
      return NcclType::kInt64;
    case at::kHalf:
      return NcclType::kFloat16;
    case at::kBFloat16:
      return NcclType::kBfloat16;
    case at::kFloat:
      return NcclType::kFloat32;
    case at::kDouble:
      return NcclType::kFloat64;
    default:
      throw Error(ErrorKind::kInternal, fmt::format("NCCL has no element type for {}", c10::toString(type)));
  }
}

// Of rank 0, on all ranks.
NcclId agree_on_id(Communicator& host) {
  NcclId id{};
  run_agreed(host, [&] {
    if (host.rank() == 0) id = nccl_make_id();
  });
  const at::Tensor bytes = at::empty({static_cast<int64_t>(id.size())}, at::kByte);  // [128]
  std::memcpy(bytes.mutable_data_ptr(), id.data(), id.size());
  host.broadcast(bytes, 0).wait();
  std::memcpy(id.data(), bytes.const_data_ptr(), id.size());
  return id;
}

}  // namespace

NcclCommunicator::NcclCommunicator(NcclLaunchThread& thread, std::unique_ptr<Communicator> host,
                                   at::Device device, const NcclOptions& options,
                                   std::shared_ptr<NcclChannel> channel)
    : thread_(thread),
      host_(std::move(host)),
      device_(device),
      options_(options),
      channel_(std::move(channel)),
      rank_(host_->rank()),
      size_(host_->size()) {}

NcclCommunicator::~NcclCommunicator() {
  if (!host_ || thread_.failure()) return;
  log_warning("communicator '{}' was not closed: its handles are leaked", name());
  // The launch thread keeps the channel.
}

std::unique_ptr<NcclCommunicator> NcclCommunicator::adopt(NcclLaunchThread& thread,
                                                          std::unique_ptr<Communicator> host,
                                                          at::Device device, const NcclOptions& options,
                                                          std::shared_ptr<NcclChannel> channel) {
  channel->messages = host->split(0, host->rank(), channel->name + " messages");
  return std::unique_ptr<NcclCommunicator>(
      new NcclCommunicator(thread, std::move(host), device, options, std::move(channel)));
}

std::unique_ptr<NcclCommunicator> NcclCommunicator::make(NcclLaunchThread& thread,
                                                         std::unique_ptr<Communicator> host,
                                                         at::Device device, const NcclOptions& options) {
  const NcclId id = agree_on_id(*host);
  auto channel = std::make_shared<NcclChannel>();
  channel->name = host->name();
  run_agreed(*host, [&] {
    const uint64_t entry = thread.journal().enter(OperationKind::kSplit, channel->name, 0);
    thread.run(entry, [&] {
      channel->stream = cuda::make_stream(cuda::Priority::kHigh);
      channel->group = NcclGroup::make(id, host->rank(), host->size(), channel->name, options, thread.poll());
      thread.add(channel);
    });
  });
  return adopt(thread, std::move(host), device, options, std::move(channel));
}

// Whether the host communicator moves it; what is neither there nor here is refused by the checks.
bool NcclCommunicator::is_for_host(const at::Tensor& tensor) const {
  check_open();
  return tensor.defined() && tensor.device() != device_ && tensor.is_cpu();
}

void NcclCommunicator::check_open() const {
  check(host_ != nullptr, ErrorKind::kInternal, fmt::format("communicator '{}' is closed", name()));
  if (const std::optional<Error> failed = thread_.failure()) throw *failed;
}

Work NcclCommunicator::start(NcclOperation::Tensors tensors, const NcclCall& call, int peer) {
  const uint64_t entry = thread_.journal().enter(call.kind, name(), static_cast<int64_t>(call.count), peer);
  if (call.count == 0) {
    thread_.journal().mark_started(entry);
    thread_.journal().mark_finished(entry);
    return {};
  }
  auto operation = std::make_shared<NcclCollective>(thread_, channel_, std::move(tensors), entry, call);
  thread_.start(operation);
  return Work(std::move(operation));
}

Work NcclCommunicator::all_gather(const at::Tensor& input, const at::Tensor& output) {
  if (is_for_host(input)) return host_->all_gather(input, output);
  check_all_gather(*this, input, output, device_);
  return start({input, output}, {.kind = OperationKind::kAllGather,
                                 .input = input.const_data_ptr(),
                                 .output = output.mutable_data_ptr(),
                                 .count = static_cast<size_t>(input.numel()),
                                 .type = type_of(input.scalar_type())});
}

Work NcclCommunicator::reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) {
  if (is_for_host(input)) return host_->reduce_scatter(input, output, op);
  check_reduce_scatter(*this, input, output, device_);
  (void)Reduction(input.scalar_type(), op);  // refuses here what it refuses on hosts
  return start({input, output}, {.kind = OperationKind::kReduceScatter,
                                 .input = input.const_data_ptr(),
                                 .output = output.mutable_data_ptr(),
                                 .count = static_cast<size_t>(output.numel()),
                                 .type = type_of(input.scalar_type()),
                                 .op = op});
}

Work NcclCommunicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  if (is_for_host(tensor)) return host_->all_reduce(tensor, op);
  check_all_reduce(*this, tensor, device_);
  (void)Reduction(tensor.scalar_type(), op);
  return start({tensor}, {.kind = OperationKind::kAllReduce,
                          .output = tensor.mutable_data_ptr(),
                          .count = static_cast<size_t>(tensor.numel()),
                          .type = type_of(tensor.scalar_type()),
                          .op = op});
}

Work NcclCommunicator::broadcast(const at::Tensor& tensor, int root) {
  if (is_for_host(tensor)) return host_->broadcast(tensor, root);
  check_broadcast(*this, tensor, root, device_);
  return start({tensor},
               {.kind = OperationKind::kBroadcast,
                .output = tensor.mutable_data_ptr(),
                .count = static_cast<size_t>(tensor.numel()),
                .type = type_of(tensor.scalar_type()),
                .root = root},
               root);
}

Work NcclCommunicator::all_to_all(const at::Tensor& input, const at::Tensor& output) {
  if (is_for_host(input)) return host_->all_to_all(input, output);
  check_all_to_all(*this, input, output, device_);
  return start({input, output}, {.kind = OperationKind::kAllToAll,
                                 .input = input.const_data_ptr(),
                                 .output = output.mutable_data_ptr(),
                                 .count = static_cast<size_t>(input.numel() / size_),
                                 .type = type_of(input.scalar_type())});
}

template <class Message>
Work NcclCommunicator::start_message(OperationKind kind, const at::Tensor& tensor, int peer, int tag) {
  const uint64_t entry = thread_.journal().enter(kind, name(), tensor.numel(), peer, tag);
  auto operation = std::make_shared<Message>(thread_, channel_, tensor, entry, peer, tag);
  thread_.start(operation);
  return Work(std::move(operation));
}

Work NcclCommunicator::send(const at::Tensor& tensor, int peer, int tag) {
  if (is_for_host(tensor)) return host_->send(tensor, peer, tag);
  check_message(*this, "send", tensor, peer, tag, device_);
  return start_message<NcclSend>(OperationKind::kSend, tensor, peer, tag);
}

Work NcclCommunicator::recv(const at::Tensor& tensor, int peer, int tag) {
  if (is_for_host(tensor)) return host_->recv(tensor, peer, tag);
  check_message(*this, "recv", tensor, peer, tag, device_);
  return start_message<NcclReceive>(OperationKind::kRecv, tensor, peer, tag);
}

void NcclCommunicator::barrier() {
  check_open();
  host_->barrier();
}

std::unique_ptr<Communicator> NcclCommunicator::split(int color, int key, const std::string& name) {
  check_open();
  // Also makes sure that all ranks are on their way.
  std::unique_ptr<Communicator> host = host_->split(color, key, name);
  const bool is_alone = host->size() == 1;
  auto channel = std::make_shared<NcclChannel>();
  channel->name = name;
  run_agreed(*host_, [&] {
    const uint64_t entry = thread_.journal().enter(OperationKind::kSplit, this->name(), 0);
    thread_.run(entry, [&] {
      thread_.drain();
      // The rank in the new group is the key: NCCL orders as the host communicator has done.
      channel->group = channel_->group->split(is_alone ? -1 : color, host->rank(), name, options_);
      if (!channel->group) return;
      channel->stream = cuda::make_stream(cuda::Priority::kHigh);
      thread_.add(channel);
      ensure(channel->group->rank() == host->rank(), "NCCL orders a new group as MPI does");
    });
  });
  if (!is_alone) return adopt(thread_, std::move(host), device_, options_, std::move(channel));
  host->close();
  return std::make_unique<SingleCommunicator>(name, &thread_.journal(), device_);
}

void NcclCommunicator::close() {
  check_open();
  run_agreed(*host_, [&] {
    const uint64_t entry = thread_.journal().enter(OperationKind::kClose, name(), 0);
    thread_.run(entry, [&] {
      thread_.drain();
      const int unfinished = channel_->unfinished;
      check(unfinished == 0, ErrorKind::kInternal,
            fmt::format("communicator '{}' is closed with {} operations under way", name(), unfinished));
    });
  });
  const uint64_t entry = thread_.journal().enter(OperationKind::kClose, name(), 0);
  thread_.run(entry, [&] { thread_.close(channel_); });
  channel_->messages->close();
  host_->close();
  host_.reset();
}

void NcclCommunicator::abort(int code) noexcept {
  if (!thread_.abort(kAbortTimeout)) log_error("the device did not let go of its communicators in time");
  if (host_) host_->abort(code);
  Communicator::abort(code);
}

}  // namespace tmd::comm
