#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/philox.h"
#include "comm/communicator.h"

namespace tmd::test {

/// A communicator whose collectives happen at the two ends of what its contract allows, by a draw that is the
/// same on all ranks: at once, within the call, or not before somebody waits. Code that touches a buffer too
/// early or uses it again too soon gets other bits. Wraps another one, and the groups that are split off.
class CanaryCommunicator final : public comm::Communicator {
 public:
  /// Owns `inner` if it is given as a unique_ptr.
  CanaryCommunicator(comm::Communicator& inner, uint64_t seed) : inner_(inner), seed_(seed) {}
  CanaryCommunicator(std::unique_ptr<comm::Communicator> inner, uint64_t seed)
      : owned_(std::move(inner)), inner_(*owned_), seed_(seed) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const std::string& name() const override { return inner_.name(); }

  comm::Work all_gather(const at::Tensor& input, const at::Tensor& output) override {
    return start([=, this] { return inner_.all_gather(input, output); });
  }
  comm::Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, comm::ReduceOp op) override {
    return start([=, this] { return inner_.reduce_scatter(input, output, op); });
  }
  comm::Work all_reduce(const at::Tensor& tensor, comm::ReduceOp op) override {
    return start([=, this] { return inner_.all_reduce(tensor, op); });
  }
  comm::Work broadcast(const at::Tensor& tensor, int root) override {
    return start([=, this] { return inner_.broadcast(tensor, root); });
  }
  comm::Work all_to_all(const at::Tensor& input, const at::Tensor& output) override {
    return start([=, this] { return inner_.all_to_all(input, output); });
  }
  comm::Work send(const at::Tensor& tensor, int peer, int tag) override {
    return inner_.send(tensor, peer, tag);
  }
  comm::Work recv(const at::Tensor& tensor, int peer, int tag) override {
    return inner_.recv(tensor, peer, tag);
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return std::make_unique<CanaryCommunicator>(inner_.split(color, key, name), seed_ + 1);
  }
  void close() override { inner_.close(); }
  void mark(std::string_view position) override { inner_.mark(position); }

 private:
  template <class Run>
  class Late final : public comm::Operation {
   public:
    explicit Late(Run run) : run_(std::move(run)) {}
    void wait() override {
      if (!has_run_) run_().wait();
      has_run_ = true;
    }
    bool is_done() override { return has_run_; }

   private:
    Run run_;
    bool has_run_ = false;
  };

  template <class Run>
  comm::Work start(Run run) {
    const bool is_late = PhiloxStream(seed_, 0, 0, Purpose::kInit).uniform(operations_++) < 0.5;
    if (is_late) return comm::Work(std::make_shared<Late<Run>>(std::move(run)));
    run().wait();
    return comm::Work();
  }

  std::unique_ptr<comm::Communicator> owned_;
  comm::Communicator& inner_;
  uint64_t seed_;
  uint64_t operations_ = 0;
};

}  // namespace tmd::test
