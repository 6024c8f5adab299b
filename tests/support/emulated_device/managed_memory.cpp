#include <cuda_runtime_api.h>
#include <stdexcept>
#include <string>

#include "test_memory.h"

namespace tmd::device {

std::shared_ptr<unsigned char> test_memory(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t code = cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal);
  if (code != cudaSuccess)
    throw std::runtime_error(std::string("cudaMallocManaged: ") + cudaGetErrorString(code) +
                             "; this test needs a device");
  return {static_cast<unsigned char*>(memory), [](unsigned char* p) { cudaFree(p); }};
}

}  // namespace tmd::device
