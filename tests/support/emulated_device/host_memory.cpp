#include <cstdlib>
#include <new>

#include "test_memory.h"

namespace tmd::device {

std::shared_ptr<unsigned char> test_memory(size_t bytes) {
  constexpr size_t kAlignment = 64;
  void* memory = std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  if (!memory) throw std::bad_alloc();
  return {static_cast<unsigned char*>(memory), std::free};
}

}  // namespace tmd::device
