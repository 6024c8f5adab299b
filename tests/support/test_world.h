#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/mpi_runtime.h"

namespace tmd::test {

/// The ranks of a test program as its cases see them. What is linked decides which they are: those of MPI
/// (host_world.cpp, in the library of test support), or devices (nccl_stand_in/device_world.cpp, in its
/// place).
class TestWorld {
 public:
  virtual ~TestWorld() = default;
  virtual comm::Communicator& ranks() = 0;
  /// After the last case; says what went wrong behind the cases' backs, one line for each.
  /// Collective over: the ranks.
  virtual std::vector<std::string> close() = 0;
};

/// Collective over: all ranks of `mpi`.
std::unique_ptr<TestWorld> make_world(comm::MpiRuntime& mpi);

}  // namespace tmd::test
