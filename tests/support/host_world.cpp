#include "tests/support/test_world.h"

namespace tmd::test {
namespace {

class HostWorld final : public TestWorld {
 public:
  explicit HostWorld(comm::MpiRuntime& mpi) : mpi_(mpi) {}
  comm::Communicator& ranks() override { return mpi_.world(); }
  std::vector<std::string> close() override { return {}; }

 private:
  comm::MpiRuntime& mpi_;
};

}  // namespace

std::unique_ptr<TestWorld> make_world(comm::MpiRuntime& mpi) { return std::make_unique<HostWorld>(mpi); }

}  // namespace tmd::test
