#include "workers/batch_buffers.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/memory_counter.h"

namespace tmd::workers {
namespace {

// The pool's own tensor is the only one in the memory.
bool is_free(const BatchTensors& buffer) {
  return buffer.latents.storage().use_count() == 1 && buffer.text.storage().use_count() == 1;
}

}  // namespace

BatchBuffers::BatchBuffers(int64_t rows, const SampleShape& shape) : rows_(rows), shape_(shape) {
  ensure(rows >= 1, "batches have rows");
}

BatchTensors BatchBuffers::take(int64_t rows) {
  ensure(rows >= 1 && rows <= rows_, "a batch fits its buffer");
  auto buffer = std::ranges::find_if(buffers_, is_free);
  if (buffer == buffers_.end()) {
    const auto& [c, t, h, w] = shape_.latent;
    const auto& [s, e] = shape_.text;
    const sharding::MemoryTag tag(sharding::MemoryItem::kBatch);
    buffers_.push_back({at::empty({rows_, c, t, h, w}, at::kFloat), at::empty({rows_, s, e}, at::kFloat)});
    buffer = std::prev(buffers_.end());
  }
  return {buffer->latents.narrow(0, 0, rows), buffer->text.narrow(0, 0, rows)};
}

}  // namespace tmd::workers
