#include "workers/batch_upload.h"

#include <cstring>

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::workers {

BatchUpload::BatchUpload(at::Device device, comm::DeviceStreams& streams)
    : device_(device),
      streams_(streams),
      stream_(cuda::make_stream(cuda::Priority::kNormal)),
      computed_(cuda::make_event()) {
  for (Slot& slot : slots_) slot.copied = cuda::make_event();
}

BatchUpload::~BatchUpload() {
  try {
    cuda::synchronize(stream_.get());
  } catch (const Error&) {  // the device has failed, and whoever looked first has said so
  }
}

// Only while nothing uses the slot: the copies have arrived, and what computed with them is over.
void BatchUpload::make_room(Slot& slot, size_t lane, size_t bytes) {
  Lane& l = slot.lanes[lane];
  if (l.pinned.size() >= bytes) return;
  cuda::synchronize(streams_.current());
  l.pinned = cuda::PinnedMemory(bytes);
  l.place = at::empty({static_cast<int64_t>(bytes)}, at::TensorOptions(at::kByte).device(device_));
}

at::Tensor BatchUpload::start_copy(Slot& slot, size_t lane, const at::Tensor& tensor) {
  const at::Tensor values = tensor.contiguous();
  const size_t bytes = values.nbytes();
  if (bytes == 0) return values.to(device_);
  make_room(slot, lane, bytes);
  Lane& l = slot.lanes[lane];
  std::memcpy(l.pinned.data(), values.const_data_ptr(), bytes);
  cuda::copy_to_device(l.place.mutable_data_ptr(), l.pinned.data(), bytes, stream_.get());
  return l.place.narrow(0, 0, static_cast<int64_t>(bytes)).view(values.scalar_type()).view(values.sizes());
}

Batch BatchUpload::upload(const Batch& batch) {
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  if (slot.is_used) cuda::synchronize(slot.copied.get());  // the host's side of it is free
  // The device's side is free when the work is over that was given out before the call before this one; what
  // stands on the stream now includes it.
  cuda::wait(stream_.get(), computed_.get());
  cuda::record(computed_.get(), streams_.current());
  Batch result = batch;
  result.latents = start_copy(slot, 0, batch.latents);
  result.text = start_copy(slot, 1, batch.text);
  cuda::record(slot.copied.get(), stream_.get());
  slot.is_used = true;
  cuda::wait(streams_.current(), slot.copied.get());
  return result;
}

}  // namespace tmd::workers
