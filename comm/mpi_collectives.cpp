#include "comm/mpi_collectives.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <vector>

#include <ATen/ATen.h>

#include "comm/algorithm.h"
#include "comm/mpi_progress_thread.h"
#include "comm/parts.h"
#include "comm/reduction.h"

namespace tmd::comm {
namespace {

// What is copied or summed at once, and what travels as one message of a reduction: large enough for the
// library's fast path, small enough to be summed while it is in the cache.
constexpr size_t kChunkBytes = 512 * 1024;

// Chunks of a reduction that are under way at the same time.
constexpr size_t kWindow = 4;

const std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}
std::byte* mutable_bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

std::vector<int> others(const MpiGroup& group) { return ranks_after(group.rank(), group.size()); }

Flow copy(MpiOperation& operation, const std::byte* from, std::byte* to, size_t bytes) {
  if (from == to) co_return;
  for (size_t offset = 0; offset < bytes; offset += kChunkBytes) {
    std::memcpy(to + offset, from + offset, std::min(kChunkBytes, bytes - offset));
    if (offset + kChunkBytes < bytes) co_await operation.thread().yield();
  }
}

/// Chunk after chunk of the reduction of one part for each rank, through a window of chunks under way.
class PartReduction {
 public:
  PartReduction(MpiOperation& operation, const Reduction& reduction, const std::byte* input, Parts parts)
      : group_(operation.group()),
        reduction_(reduction),
        input_(input),
        parts_(parts),
        chunk_elements_(static_cast<int64_t>(kChunkBytes / reduction.element_bytes())),
        slot_bytes_(kChunkBytes * static_cast<size_t>(group_.size() - 1)),
        scratch_(operation.thread().scratch().borrow(slot_bytes_ * std::min<size_t>(kWindow, chunks()))) {
    for (size_t i = 0; i < kWindow; ++i) window_.emplace_back(operation);
  }

  size_t chunks() const {
    return static_cast<size_t>((parts_.largest() + chunk_elements_ - 1) / chunk_elements_);
  }

  /// Begins to exchange chunk `index` of every part.
  void post(size_t index) {
    std::byte* slot = slot_of(index);
    for (int peer : others(group_)) {
      if (const size_t bytes = chunk_bytes(group_.rank(), index); bytes > 0)
        exchange(index).receive(peer, slot, bytes);
      if (const size_t bytes = chunk_bytes(peer, index); bytes > 0)
        exchange(index).send(peer, input_of(peer, index), bytes);
      slot += kChunkBytes;
    }
  }

  /// Complete when chunk `index` has been exchanged, until a later one is posted in its place.
  MpiExchange& exchange(size_t index) { return window_[index % kWindow]; }

  /// Chunk `index` of this rank's part, once its exchange is complete.
  void reduce(size_t index, std::byte* output) {
    const int64_t elements = chunk_count(group_.rank(), index);
    if (elements == 0) return;
    inputs_.resize(static_cast<size_t>(group_.size()));
    inputs_[static_cast<size_t>(group_.rank())] = input_of(group_.rank(), index);
    const std::byte* slot = slot_of(index);
    for (int peer : others(group_)) {
      inputs_[static_cast<size_t>(peer)] = slot;
      slot += kChunkBytes;
    }
    reduction_.apply(inputs_, output + index * kChunkBytes, elements);
  }

 private:
  int64_t chunk_count(int rank, size_t index) const {
    const int64_t rest = parts_.count(rank) - static_cast<int64_t>(index) * chunk_elements_;
    return std::clamp<int64_t>(rest, 0, chunk_elements_);
  }
  size_t chunk_bytes(int rank, size_t index) const {
    return static_cast<size_t>(chunk_count(rank, index)) * reduction_.element_bytes();
  }
  const std::byte* input_of(int rank, size_t index) const {
    return input_ + static_cast<size_t>(parts_.begin(rank)) * reduction_.element_bytes() +
           index * kChunkBytes;
  }
  std::byte* slot_of(size_t index) const { return scratch_.data() + index % kWindow * slot_bytes_; }

  const MpiGroup& group_;
  const Reduction& reduction_;
  const std::byte* input_;
  Parts parts_;
  int64_t chunk_elements_;
  size_t slot_bytes_;
  ScratchPool::Loan scratch_;
  std::deque<MpiExchange> window_;
  std::vector<const std::byte*> inputs_;  // by rank
};

/// output = this rank's part of the reduction; it may be that part of `input` itself.
Flow reduce_part(MpiOperation& operation, const Reduction& reduction, const std::byte* input, Parts parts,
                 std::byte* output) {
  PartReduction part(operation, reduction, input, parts);
  for (size_t i = 0; i < part.chunks() + kWindow; ++i) {
    if (i >= kWindow) {
      MpiExchange& exchange = part.exchange(i - kWindow);  // g++ 12 would copy what a call returns
      co_await exchange;
      part.reduce(i - kWindow, output);
    }
    if (i < part.chunks()) part.post(i);
    if (i > kWindow) co_await operation.thread().yield();
  }
}

Flow reduce_small(MpiOperation& operation, const Reduction& reduction, std::byte* data, int64_t elements) {
  const MpiGroup& group = operation.group();
  const size_t bytes = static_cast<size_t>(elements) * reduction.element_bytes();
  const ScratchPool::Loan scratch =
      operation.thread().scratch().borrow(bytes * static_cast<size_t>(group.size()));
  std::vector<const std::byte*> inputs;
  for (int rank = 0; rank < group.size(); ++rank)
    inputs.push_back(scratch.data() + static_cast<size_t>(rank) * bytes);
  inputs[static_cast<size_t>(group.rank())] = data;

  MpiExchange exchange(operation);
  for (int peer : others(group)) {
    exchange.receive(peer, scratch.data() + static_cast<size_t>(peer) * bytes, bytes);
    exchange.send(peer, data, bytes);
  }
  co_await exchange;
  reduction.apply(inputs, data, elements);
}

Flow gather_parts(MpiOperation& operation, std::byte* data, Parts parts, size_t element_bytes) {
  const MpiGroup& group = operation.group();
  const auto begin = [&](int rank) { return data + static_cast<size_t>(parts.begin(rank)) * element_bytes; };
  const auto bytes = [&](int rank) { return static_cast<size_t>(parts.count(rank)) * element_bytes; };
  MpiExchange exchange(operation);
  for (int peer : others(group)) {
    exchange.receive(peer, begin(peer), bytes(peer));
    exchange.send(peer, begin(group.rank()), bytes(group.rank()));
  }
  co_await exchange;
}

}  // namespace

Flow all_gather_flow(MpiOperation& operation, at::Tensor input, at::Tensor output) {
  const MpiGroup& group = operation.group();
  const size_t bytes = input.nbytes();
  std::byte* gathered = mutable_bytes_of(output);
  MpiExchange exchange(operation);
  for (int peer : others(group)) {
    exchange.receive(peer, gathered + static_cast<size_t>(peer) * bytes, bytes);
    exchange.send(peer, bytes_of(input), bytes);
  }
  co_await copy(operation, bytes_of(input), gathered + static_cast<size_t>(group.rank()) * bytes, bytes);
  co_await exchange;
}

Flow reduce_scatter_flow(MpiOperation& operation, at::Tensor input, at::Tensor output, ReduceOp op) {
  const Reduction reduction(input.scalar_type(), op);
  const Parts parts{.elements = input.numel(), .ranks = operation.group().size()};
  co_await reduce_part(operation, reduction, bytes_of(input), parts, mutable_bytes_of(output));
}

Flow all_reduce_flow(MpiOperation& operation, at::Tensor tensor, ReduceOp op) {
  const Reduction reduction(tensor.scalar_type(), op);
  std::byte* data = mutable_bytes_of(tensor);
  if (tensor.nbytes() <= kSmallReduceBytes) {
    co_await reduce_small(operation, reduction, data, tensor.numel());
    co_return;
  }
  const MpiGroup& group = operation.group();
  const Parts parts{.elements = tensor.numel(), .ranks = group.size()};
  std::byte* own = data + static_cast<size_t>(parts.begin(group.rank())) * reduction.element_bytes();
  co_await reduce_part(operation, reduction, data, parts, own);
  co_await gather_parts(operation, data, parts, reduction.element_bytes());
}

Flow broadcast_flow(MpiOperation& operation, at::Tensor tensor, int root) {
  const MpiGroup& group = operation.group();
  std::byte* data = mutable_bytes_of(tensor);
  const auto size = static_cast<unsigned>(group.size());
  const auto rank_at = [&](unsigned place) {
    return static_cast<int>((place + static_cast<unsigned>(root)) % size);
  };
  // Place in the tree: 0 is the root; the parent of p is p without its lowest set bit.
  const unsigned place = (static_cast<unsigned>(group.rank()) + size - static_cast<unsigned>(root)) % size;
  const unsigned low_bit = place == 0 ? std::bit_ceil(size) : place & (~place + 1);

  MpiExchange exchange(operation);
  if (place != 0) {
    exchange.receive(rank_at(place - low_bit), data, tensor.nbytes());
    co_await exchange;
  }
  for (unsigned bit = low_bit / 2; bit > 0; bit /= 2) {
    if (place + bit < size) exchange.send(rank_at(place + bit), data, tensor.nbytes());
  }
  co_await exchange;
}

Flow all_to_all_flow(MpiOperation& operation, at::Tensor input, at::Tensor output) {
  const MpiGroup& group = operation.group();
  const size_t bytes = input.nbytes() / static_cast<size_t>(group.size());
  const auto offset = [&](int rank) { return static_cast<size_t>(rank) * bytes; };
  MpiExchange exchange(operation);
  for (int peer : others(group)) {
    exchange.receive(peer, mutable_bytes_of(output) + offset(peer), bytes);
    exchange.send(peer, bytes_of(input) + offset(peer), bytes);
  }
  co_await copy(operation, bytes_of(input) + offset(group.rank()),
                mutable_bytes_of(output) + offset(group.rank()), bytes);
  co_await exchange;
}

Flow send_flow(MpiOperation& operation, at::Tensor tensor, int peer) {
  MpiExchange exchange(operation);
  exchange.send(peer, bytes_of(tensor), tensor.nbytes());
  co_await exchange;
}

Flow receive_flow(MpiOperation& operation, at::Tensor tensor, int peer) {
  MpiExchange exchange(operation);
  exchange.receive(peer, mutable_bytes_of(tensor), tensor.nbytes());
  co_await exchange;
}

// Dissemination: after round k each rank knows of 2^k ranks that they have come.
Flow barrier_flow(MpiOperation& operation) {
  const MpiGroup& group = operation.group();
  MpiExchange exchange(operation);
  for (int distance = 1; distance < group.size(); distance *= 2) {
    exchange.receive((group.rank() + group.size() - distance) % group.size(), nullptr, 0);
    exchange.send((group.rank() + distance) % group.size(), nullptr, 0);
    co_await exchange;
  }
}

Flow split_flow(MpiOperation& operation, int color, int key, std::unique_ptr<MpiGroup>& group) {
  group = operation.group().split(color, key);
  co_return;
}

Flow free_flow(MpiOperation& operation) {
  operation.group().free();
  co_return;
}

}  // namespace tmd::comm
