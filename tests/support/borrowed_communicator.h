#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/support/wrapped_communicator.h"

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
  class Borrowed final : public WrappedCommunicator {
   public:
    Borrowed(HostGroups& owner, size_t index)
        : WrappedCommunicator(*owner.groups_[index]), owner_(owner), index_(index), name_(inner().name()) {}
    const std::string& name() const override { return name_; }
    std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
      return owner_.lend(inner().split(color, key, name));
    }
    void close() override { owner_.close(index_); }

   private:
    HostGroups& owner_;
    size_t index_;
    std::string name_;
  };

  void close(size_t index) {
    if (groups_[index]) groups_[index]->close();
    groups_[index].reset();
  }

  std::vector<std::unique_ptr<comm::Communicator>> groups_;
};

}  // namespace tmd::test
