// One rank is killed in the middle of a large collective: the launcher must end the others, which wait for
// it.
//   killed_peer_program ALGORITHM

#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include <ATen/ATen.h>

#include "comm/algorithm.h"
#include "comm/mpi_runtime.h"

int main(int argc, char** argv) {
  using namespace tmd::comm;
  MpiRuntime mpi;
  const bool is_window = argc > 1 && std::strcmp(argv[1], name(Algorithm::kWindow)) == 0;
  const auto comm =
      with_algorithm(mpi.world(), is_window ? Algorithm::kWindow : Algorithm::kMessages, "killed");
  comm->barrier();
  if (comm->rank() == 1) mpi.delay_work(std::chrono::milliseconds(20));
  const at::Tensor numbers = at::ones({4'000'000});
  Work work = comm->all_reduce(numbers, ReduceOp::kSum);
  if (comm->rank() == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    std::raise(SIGKILL);
  }
  work.wait();
  comm->close();
  mpi.finalize();
  return 0;  // not reached
}
