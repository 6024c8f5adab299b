#pragma once

#include "comm/communicator.h"
#include "comm/mpi_runtime.h"

// For tests that run on several ranks (tmd_mpi_test in tests/CMakeLists.txt). The main function that is
// linked in initialises MPI, agrees the verdict of each case over the ranks and prints the failures of every
// rank. A case that takes longer than its time limit (three minutes; five under a sanitizer) ends the program.
//
// No fatal assertion (ASSERT_*) may come before the last collective of a case: the other ranks would wait.

namespace tmd::test {

/// All ranks of the test program, as tests/support/test_world.h makes them.
comm::Communicator& world();

comm::MpiRuntime& runtime();

}  // namespace tmd::test
