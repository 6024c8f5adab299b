#pragma once

#include "comm/nccl_operation.h"

namespace tmd::comm {

// Messages between the devices of two ranks. NCCL knows no tags, it matches what two ranks send and receive
// in the order of the launches, and a receive that is not answered holds the device. The contract wants tags,
// and receives that may be posted long before their messages. So a message goes through pinned memory of the
// hosts and the channel's host communicator, which keeps the contract. It crosses the host twice, which is
// good enough for what is rare: nothing in a training step sends messages between devices.

/// What the two ends have in common.
class NcclMessage : public NcclOperation {
 public:
  NcclMessage(NcclLaunchThread& thread, std::shared_ptr<NcclChannel> channel, const at::Tensor& tensor,
              uint64_t journal_entry, int peer, int tag);

  bool is_collective() const override { return false; }
  bool is_under_way() noexcept override;

 protected:
  /// A view of pinned memory, which has room for the message from then on.
  at::Tensor stage();
  void unstage();

  void* const data_;  // of the device
  const size_t bytes_;
  const int peer_, tag_;
  Work host_work_;
  cuda::PinnedMemory staging_;

 private:
  const int64_t elements_;
  const at::ScalarType type_;
};

/// The device's data to the host, and then to the peer. `wait` makes the host wait until the host
/// communicator's send is complete.
class NcclSend final : public NcclMessage {
 public:
  using NcclMessage::NcclMessage;
  void launch() override;
  bool advance() override;
  bool is_under_way() noexcept override;

 private:
  at::Tensor staged_;  // none once the host communicator has it
};

/// The peer's message to the host, and then to the device. `wait` makes the host wait until it has come.
class NcclReceive final : public NcclMessage {
 public:
  using NcclMessage::NcclMessage;
  void launch() override;
  bool advance() override;
};

}  // namespace tmd::comm
