#include "tests/support/nccl_stand_in/memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>

#include "tests/support/nccl_stand_in/stand_in.h"

namespace tmd::test {
namespace {

class StandInAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = stand_in::allocate(bytes);
    return {memory, memory, &stand_in::give_back, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &stand_in::give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

// Kept for ever: tensors may outlive everything.
void take_tensors_from_stand_in() {
  static auto* const allocator = new StandInAllocator;
  c10::SetAllocator(c10::kCPU, allocator, 255);
}

StandInStreams::StandInStreams()
    : stream_(cuda::make_stream(cuda::Priority::kNormal)), current_(stream_.get()) {
  stand_in::set_caller_stream(current_);
}

StandInStreams::~StandInStreams() {
  cuda::synchronize(stream_.get());
  stand_in::set_caller_stream(nullptr);
}

StandInMemory::~StandInMemory() { finish_copies(); }

void StandInMemory::finish_copies() {
  cuda::synchronize(streams_.current());
  std::ranges::move(copying_, std::back_inserter(free_));
  copying_.clear();
}

cuda::PinnedMemory StandInMemory::borrow(size_t bytes) {
  const auto found =
      std::ranges::find_if(free_, [bytes](const auto& memory) { return memory.size() >= bytes; });
  if (found == free_.end()) return cuda::PinnedMemory(std::bit_ceil(std::max<size_t>(bytes, 4096)));
  cuda::PinnedMemory memory = std::move(*found);
  free_.erase(found);
  return memory;
}

at::Tensor StandInMemory::put(const at::Tensor& tensor) {
  at::Tensor there = at::empty(tensor.sizes(), tensor.options());
  if (tensor.nbytes() == 0) return there;
  cuda::PinnedMemory staging = borrow(tensor.nbytes());
  std::memcpy(staging.data(), tensor.contiguous().const_data_ptr(), tensor.nbytes());
  cuda::copy_to_device(there.mutable_data_ptr(), staging.data(), tensor.nbytes(), streams_.current());
  copying_.push_back(std::move(staging));
  if (waits_) finish_copies();
  return there;
}

at::Tensor StandInMemory::get(const at::Tensor& tensor) {
  at::Tensor here = at::empty(tensor.sizes(), tensor.options());
  if (tensor.nbytes() == 0) return here;
  cuda::PinnedMemory staging = borrow(tensor.nbytes());
  cuda::copy_to_host(staging.data(), tensor.const_data_ptr(), tensor.nbytes(), streams_.current());
  finish_copies();
  std::memcpy(here.mutable_data_ptr(), staging.data(), tensor.nbytes());
  free_.push_back(std::move(staging));
  return here;
}

}  // namespace tmd::test
