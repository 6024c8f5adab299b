// One rank aborts with code 76 while the others wait for messages that never come.

#include <ATen/ATen.h>

#include "comm/mpi_runtime.h"

int main() {
  tmd::comm::MpiRuntime mpi;
  tmd::comm::Communicator& world = mpi.world();
  world.barrier();
  if (world.rank() == 1) mpi.abort(76);
  world.recv(at::zeros({1}), 1, 0).wait();
  mpi.finalize();
  return 0;
}
