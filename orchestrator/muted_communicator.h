#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace tmd::orchestrator {

/// Passes everything on to another communicator until it is muted; from then on collectives of its own and of
/// the groups that are split off end at once and move nothing. What is computed then has no meaning; how long
/// it takes has: it is the time of a step whose communication costs nothing. Thread: one.
class MutedCommunicator final : public comm::Communicator {
 public:
  /// Keeps references. `is_muted` may change while nothing is under way.
  MutedCommunicator(comm::Communicator& inner, const bool& is_muted) : inner_(inner), is_muted_(is_muted) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const std::string& name() const override { return inner_.name(); }

  comm::Work all_gather(const at::Tensor& input, const at::Tensor& output) override {
    return is_muted_ ? comm::Work() : inner_.all_gather(input, output);
  }
  comm::Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, comm::ReduceOp op) override {
    return is_muted_ ? comm::Work() : inner_.reduce_scatter(input, output, op);
  }
  comm::Work all_reduce(const at::Tensor& tensor, comm::ReduceOp op) override {
    return is_muted_ ? comm::Work() : inner_.all_reduce(tensor, op);
  }
  comm::Work broadcast(const at::Tensor& tensor, int root) override {
    return is_muted_ ? comm::Work() : inner_.broadcast(tensor, root);
  }
  comm::Work all_to_all(const at::Tensor& input, const at::Tensor& output) override {
    return is_muted_ ? comm::Work() : inner_.all_to_all(input, output);
  }
  comm::Work send(const at::Tensor& tensor, int peer, int tag) override {
    return is_muted_ ? comm::Work() : inner_.send(tensor, peer, tag);
  }
  comm::Work recv(const at::Tensor& tensor, int peer, int tag) override {
    return is_muted_ ? comm::Work() : inner_.recv(tensor, peer, tag);
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return std::unique_ptr<Communicator>(new MutedCommunicator(inner_.split(color, key, name), is_muted_));
  }
  void mark(std::string_view position) override { inner_.mark(position); }
  comm::Journal* journal() override { return inner_.journal(); }
  void abort(int code) noexcept override { inner_.abort(code); }
  void close() override { inner_.close(); }

 private:
  MutedCommunicator(std::unique_ptr<comm::Communicator> inner, const bool& is_muted)
      : owned_(std::move(inner)), inner_(*owned_), is_muted_(is_muted) {}

  std::unique_ptr<comm::Communicator> owned_;
  comm::Communicator& inner_;
  const bool& is_muted_;
};

}  // namespace tmd::orchestrator
