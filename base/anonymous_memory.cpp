#include "base/anonymous_memory.h"

#include <new>
#include <sys/mman.h>
#include <unistd.h>

namespace tmd {

AnonymousMemory::AnonymousMemory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(data);
}

AnonymousMemory::~AnonymousMemory() {
  if (data_) ::munmap(data_, size_);
}

AnonymousMemory& AnonymousMemory::operator=(AnonymousMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(discarded_, other.discarded_);
  return *this;
}

void AnonymousMemory::discard_front(size_t bytes) {
  static const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t end = bytes / page * page;
  if (end <= discarded_) return;
  ::madvise(data_ + discarded_, end - discarded_, MADV_DONTNEED);
  discarded_ = end;
}

}  // namespace tmd
