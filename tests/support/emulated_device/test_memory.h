#pragma once

#include <cstddef>
#include <memory>

namespace tmd::device {

/// Memory that the test and the kernels reach, aligned to 64 bytes: the host's for the emulated grid, managed
/// memory for a device (managed_memory.cpp), whose kernels have then ended when a launch returns
/// (CUDA_LAUNCH_BLOCKING=1).
std::shared_ptr<unsigned char> test_memory(size_t bytes);

}  // namespace tmd::device
