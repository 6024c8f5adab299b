#include "comm/nccl_operation.h"

#include "comm/device_streams.h"
#include "comm/nccl_launch_thread.h"

namespace tmd::comm {

EventPool::EventPool(int device, size_t count) : device_(device) {
  const cuda::DeviceScope scope(device);
  for (size_t i = 0; i < count; ++i) free_.push_back(cuda::make_event());
}

EventPool::Loan EventPool::borrow(const std::shared_ptr<EventPool>& pool) {
  const std::lock_guard lock(pool->mutex_);
  if (pool->free_.empty()) {
    const cuda::DeviceScope scope(pool->device_);
    return Loan(pool, cuda::make_event());
  }
  cuda::Event event = std::move(pool->free_.back());
  pool->free_.pop_back();
  return Loan(pool, std::move(event));
}

void EventPool::Loan::give_back() noexcept {
  if (!event_.is_valid()) return;
  const std::lock_guard lock(pool_->mutex_);
  pool_->free_.push_back(std::move(event_));
}

NcclOperation::NcclOperation(NcclLaunchThread& thread, std::shared_ptr<NcclChannel> channel, Tensors tensors,
                             uint64_t journal_entry)
    : thread_(thread),
      channel_(std::move(channel)),
      journal_entry_(journal_entry),
      call_stream_(thread.streams().current()),
      ready_(EventPool::borrow(thread.events())),
      end_(EventPool::borrow(thread.events())),
      tensors_(std::move(tensors)) {
  cuda::record(ready_.get(), call_stream_);
  channel_->unfinished.fetch_add(1, std::memory_order_relaxed);
}

NcclOperation::~NcclOperation() = default;

void NcclOperation::wait() {
  await_change_from(kQueued);
  // An abort makes streams come to their ends: what looks complete then is not.
  if (thread_.has_failed()) await_change_from(kOnStream);
  const cuda::StreamHandle stream = thread_.streams().current();
  if (is_finished() && failure_) {
    order_after_end(stream);
    throw *failure_;
  }
  if (is_on_stream()) cuda::wait(stream, end_.get());
  if (stream == call_stream_) drop_tensors();
}

void NcclOperation::await_change_from(int state) {
  if (state_.load(std::memory_order_acquire) != state) return;
  thread_.journal().mark_waiting(journal_entry_);
  state_.wait(state, std::memory_order_acquire);
  thread_.journal().mark_waiting(0);
}

// Of an operation that has failed: the caller will give its tensors back, and what it was for is over.
void NcclOperation::order_after_end(cuda::StreamHandle stream) noexcept {
  try {
    if (is_on_stream()) cuda::wait(stream, end_.get());
  } catch (const std::exception&) {  // the device has failed too: nothing will use the memory
  }
}

bool NcclOperation::is_done() {
  const int state = state_.load(std::memory_order_acquire);
  return state == kFinished || (state == kOnStream && !thread_.has_failed() && has_end_passed());
}

void NcclOperation::finish(const std::optional<Error>& failure) {
  if (is_finished()) return;
  thread_.journal().mark_finished(journal_entry_);
  channel_->unfinished.fetch_sub(1, std::memory_order_relaxed);
  failure_ = failure;
  state_.store(kFinished, std::memory_order_release);
  state_.notify_all();
}

bool NcclOperation::is_under_way() noexcept {
  try {
    return is_on_stream() && !has_end_passed();
  } catch (const std::exception&) {
    return false;
  }
}

void NcclOperation::drop_tensors() {
  if (!has_dropped_tensors_.exchange(true)) tensors_ = {};
}

void NcclOperation::begin_on(cuda::StreamHandle stream) {
  cuda::wait(stream, ready_.get());
  ready_.give_back();
}

void NcclOperation::record_end(cuda::StreamHandle stream) { cuda::record(end_.get(), stream); }

void NcclOperation::let_waiters_go() {
  is_on_stream_.store(true, std::memory_order_release);
  state_.store(kOnStream, std::memory_order_release);
  state_.notify_all();
}

void NcclCollective::launch() {
  const cuda::StreamHandle stream = channel_->stream.get();
  NcclGroup& group = *channel_->group;
  begin_on(stream);
  switch (call_.kind) {
    case OperationKind::kAllGather:
      group.all_gather(call_.input, call_.output, call_.count, call_.type, stream);
      break;
    case OperationKind::kReduceScatter:
      group.reduce_scatter(call_.input, call_.output, call_.count, call_.type, call_.op, stream);
      break;
    case OperationKind::kAllReduce:
      group.all_reduce(call_.output, call_.count, call_.type, call_.op, stream);
      break;
    case OperationKind::kBroadcast:
      group.broadcast(call_.output, call_.count, call_.type, call_.root, stream);
      break;
    case OperationKind::kAllToAll:
      group.all_to_all(call_.input, call_.output, call_.count, call_.type, stream);
      break;
    default:
      ensure(false, "NCCL does this kind of operation");
  }
  record_end(stream);
  let_waiters_go();
}

}  // namespace tmd::comm
