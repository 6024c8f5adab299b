#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "comm/communicator.h"

namespace tmd::test {

/// Passes everything on to another communicator; tests override what they want otherwise. Groups that are
/// split off are the other's.
class WrappedCommunicator : public comm::Communicator {
 public:
  explicit WrappedCommunicator(comm::Communicator& inner) : inner_(inner) {}
  /// Owns `inner`.
  explicit WrappedCommunicator(std::unique_ptr<comm::Communicator> inner)
      : owned_(std::move(inner)), inner_(*owned_) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const std::string& name() const override { return inner_.name(); }

  comm::Work all_gather(const at::Tensor& input, const at::Tensor& output) override {
    return collective([=, this] { return inner_.all_gather(input, output); });
  }
  comm::Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, comm::ReduceOp op) override {
    return collective([=, this] { return inner_.reduce_scatter(input, output, op); });
  }
  comm::Work all_reduce(const at::Tensor& tensor, comm::ReduceOp op) override {
    return collective([=, this] { return inner_.all_reduce(tensor, op); });
  }
  comm::Work broadcast(const at::Tensor& tensor, int root) override {
    return collective([=, this] { return inner_.broadcast(tensor, root); });
  }
  comm::Work all_to_all(const at::Tensor& input, const at::Tensor& output) override {
    return collective([=, this] { return inner_.all_to_all(input, output); });
  }
  comm::Work send(const at::Tensor& tensor, int peer, int tag) override {
    return message([=, this] { return inner_.send(tensor, peer, tag); });
  }
  comm::Work recv(const at::Tensor& tensor, int peer, int tag) override {
    return message([=, this] { return inner_.recv(tensor, peer, tag); });
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<comm::Communicator> split(int color, int key, const std::string& name) override {
    return inner_.split(color, key, name);
  }
  void mark(std::string_view position) override { inner_.mark(position); }
  comm::Journal* journal() override { return inner_.journal(); }
  void close() override { inner_.close(); }

 protected:
  using Start = std::function<comm::Work()>;
  /// What begins an operation; the tensors live as long as it does.
  virtual comm::Work collective(Start start) { return start(); }
  virtual comm::Work message(Start start) { return start(); }
  comm::Communicator& inner() const { return inner_; }

 private:
  std::unique_ptr<comm::Communicator> owned_;
  comm::Communicator& inner_;
};

}  // namespace tmd::test
