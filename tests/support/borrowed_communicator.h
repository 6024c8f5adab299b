#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::test {

/// The communicators behind others that a test may leave open, which would leak them: `close` closes what is
/// still open, in the order in which it was made.
class HostGroups {
 public:
  HostGroups() = default;
  HostGroups(const HostGroups&) = delete;
  HostGroups& operator=(const HostGroups&) = delete;

  /// Stands for `group`, and for what is split off from it.
  std::unique_ptr<comm::Communicator> lend(std::unique_ptr<comm::Communicator> group) {
    groups_.push_back(std::move(group));
    return std::make_unique<Borrowed>(*this, groups_.size() - 1);
  }
  /// Collective over: those of all groups.
  void close() {
    for (size_t i = 0; i < groups_.size(); ++i) close(i);
  }

 private:
  class Borrowed final : public comm::Communicator {
   public:
    Borrowed(HostGroups& owner, size_t index)
        : owner_(owner), index_(index), group_(*owner.groups_[index]), name_(group_.name()) {}
    int rank() const override { return group_.rank(); }
    int size() const override { return group_.size(); }
    const std::string& name() const override { return name_; }
    comm::Work all_gather(const at::Tensor& input, const at::Tensor& output) override {
      return group_.all_gather(input, output);
    }
    comm::Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, comm::ReduceOp op) override {
      return group_.reduce_scatter(input, output, op);
    }
    comm::Work all_reduce(const at::Tensor& tensor, comm::ReduceOp op) override {
      return group_.all_reduce(tensor, op);
    }
    comm::Work broadcast(const at::Tensor& tensor, int root) override {
      return group_.broadcast(tensor, root);
    }
    comm::Work all_to_all(const at::Tensor& input, const at::Tensor& output) override {
      return group_.all_to_all(input, output);
    }
    comm::Work send(const at::Tensor& tensor, int peer, int tag) override {
      return group_.send(tensor, peer, tag);
    }
    comm::Work recv(const at::Tensor& tensor, int peer, int tag) override {
      return group_.recv(tensor, peer, tag);
    }
    void barrier() override { group_.barrier(); }
    std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
      return owner_.lend(group_.split(color, key, name));
    }
    void mark(std::string_view position) override { group_.mark(position); }
    comm::Journal* journal() override { return group_.journal(); }
    void close() override { owner_.close(index_); }

   private:
    HostGroups& owner_;
    size_t index_;
    comm::Communicator& group_;
    std::string name_;
  };

  void close(size_t index) {
    if (groups_[index]) groups_[index]->close();
    groups_[index].reset();
  }

  std::vector<std::unique_ptr<comm::Communicator>> groups_;
};

}  // namespace tmd::test
