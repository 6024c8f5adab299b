#include "comm/nccl_messages.h"

#include <ATen/ATen.h>

#include "comm/nccl_launch_thread.h"

namespace tmd::comm {

NcclMessage::NcclMessage(NcclLaunchThread& thread, std::shared_ptr<NcclChannel> channel,
                         const at::Tensor& tensor, uint64_t journal_entry, int peer, int tag)
    : NcclOperation(thread, std::move(channel), {tensor}, journal_entry),
      data_(tensor.mutable_data_ptr()),
      bytes_(tensor.nbytes()),
      peer_(peer),
      tag_(tag),
      elements_(tensor.numel()),
      type_(tensor.scalar_type()) {}

bool NcclMessage::is_under_way() noexcept { return !host_work_.is_done() || NcclOperation::is_under_way(); }

at::Tensor NcclMessage::stage() {
  staging_ = thread_.borrow_pinned(bytes_);
  return at::from_blob(staging_.data(), {elements_}, at::TensorOptions(type_));
}

void NcclMessage::unstage() { thread_.give_back(std::move(staging_)); }

void NcclSend::launch() {
  staged_ = stage();
  begin_on(thread_.copies());
  if (bytes_ > 0) cuda::copy_to_host(staging_.data(), data_, bytes_, thread_.copies());
  record_end(thread_.copies());
}

bool NcclSend::advance() {
  if (staged_.defined()) {
    // Messages with one tag keep their order.
    if (channel_->holds_up_sends || !has_end_passed()) {
      channel_->holds_up_sends = true;
      return false;
    }
    host_work_ = channel_->messages->send(std::exchange(staged_, at::Tensor()), peer_, tag_);
  }
  if (!host_work_.is_done()) return false;
  host_work_.wait();  // throws what it failed with
  let_waiters_go();
  unstage();
  return true;
}

bool NcclSend::is_under_way() noexcept {
  try {
    return NcclMessage::is_under_way() || (staged_.defined() && !has_end_passed());
  } catch (const std::exception&) {
    return false;
  }
}

void NcclReceive::launch() { host_work_ = channel_->messages->recv(stage(), peer_, tag_); }

bool NcclReceive::advance() {
  if (!is_on_stream()) {
    if (!host_work_.is_done()) return false;
    host_work_.wait();  // throws what it failed with
    begin_on(thread_.copies());
    if (bytes_ > 0) cuda::copy_to_device(data_, staging_.data(), bytes_, thread_.copies());
    record_end(thread_.copies());
    let_waiters_go();
  }
  if (!has_end_passed()) return false;
  unstage();
  return true;
}

}  // namespace tmd::comm
