#include "comm/window_collectives.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <ATen/ATen.h>

#include "comm/algorithm.h"
#include "comm/bulk_copy.h"
#include "comm/mpi_progress_thread.h"
#include "comm/parts.h"
#include "comm/reduction.h"

namespace tmd::comm {
namespace {

constexpr size_t kSlotBytes = NodeWindow::kSlotBytes;

const std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}
std::byte* mutable_bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

/// Parts in bytes, each cut in chunks of at most `chunk_bytes`.
class ByteParts {
 public:
  ByteParts(Parts parts, size_t element_bytes, size_t chunk_bytes)
      : parts_(parts), element_bytes_(element_bytes), chunk_bytes_(chunk_bytes) {}

  /// Of the largest part; smaller ones end with empty chunks.
  size_t chunks() const { return (bytes(0) + chunk_bytes_ - 1) / chunk_bytes_; }
  size_t begin(int rank, size_t chunk) const {
    return static_cast<size_t>(parts_.begin(rank)) * element_bytes_ + chunk * chunk_bytes_;
  }
  size_t size(int rank, size_t chunk) const {
    return std::min(chunk_bytes_, bytes(rank) - std::min(bytes(rank), chunk * chunk_bytes_));
  }

 private:
  size_t bytes(int rank) const { return static_cast<size_t>(parts_.count(rank)) * element_bytes_; }

  Parts parts_;
  size_t element_bytes_;
  size_t chunk_bytes_;
};

/// What an operation does with its chunks.
class Transfer {
 public:
  virtual ~Transfer() = default;
  /// Writes what this rank has to give into its slot.
  virtual void put(size_t chunk, std::byte* slot) = 0;
  /// Uses what the others have put. This rank has put the same chunk before.
  virtual void take(size_t chunk) = 0;
};

/// Whether the next chunk can be put or taken.
class NextChunk final : public MpiProgressThread::Condition {
 public:
  /// `writers`: the other ranks that put chunks.
  NextChunk(const NodeWindow& window, size_t chunks, bool is_writer, const std::vector<int>& writers)
      : window_(window), chunks_(chunks), writers_(writers), put(is_writer ? 0 : chunks) {}

  bool is_over() const { return put == chunks_ && taken == chunks_; }
  bool can_put() const { return put < chunks_ && window_.can_put(put); }
  bool can_take() const {
    return taken < put &&
           std::ranges::all_of(writers_, [&](int rank) { return window_.has_put(rank, taken); });
  }
  bool holds() const override { return can_put() || can_take(); }

 private:
  const NodeWindow& window_;
  size_t chunks_;
  const std::vector<int>& writers_;

 public:
  size_t put;
  size_t taken = 0;
};

/// Moves all chunks. `root`: the only rank that puts any, or -1 when all do.
Flow run_transfer(MpiOperation& operation, NodeWindow& window, Transfer& transfer, size_t chunks,
                  int root = -1) {
  MpiProgressThread& thread = operation.thread();
  std::vector<int> writers;
  for (int rank : ranks_after(window.rank(), window.size())) {
    if (root < 0 || rank == root) writers.push_back(rank);
  }
  const bool is_writer = root < 0 || root == window.rank();
  NextChunk next(window, chunks, is_writer, writers);
  while (true) {
    const bool can_put = next.can_put();
    if (can_put) {
      transfer.put(next.put, window.own_slot(next.put));
      window.mark_put(next.put++);
    }
    const bool can_take = next.can_take();
    if (can_take) {
      if (!writers.empty()) transfer.take(next.taken);
      for (int rank : writers) window.mark_taken(rank, next.taken);
      ++next.taken;
    }
    if (next.is_over()) break;
    if (can_put || can_take) {
      co_await thread.yield();
    } else {
      co_await thread.until(next);
    }
  }
  for (int rank : writers) window.count_put(rank, chunks);
  if (is_writer) window.count_put(window.rank(), chunks);
}

/// Every rank's part of `data` ends up on all ranks. `own` is this rank's part, in `data` or elsewhere.
class GatherTransfer final : public Transfer {
 public:
  GatherTransfer(const NodeWindow& window, const ByteParts& parts, const std::byte* own, std::byte* data)
      : window_(window), parts_(parts), whole_(parts.begin(window.size(), 0)), own_(own), data_(data) {}

  void put(size_t chunk, std::byte* slot) override {
    const int rank = window_.rank();
    const std::byte* from = own_ + (parts_.begin(rank, chunk) - parts_.begin(rank, 0));
    const size_t bytes = parts_.size(rank, chunk);
    std::memcpy(slot, from, bytes);
    std::byte* to = data_ + parts_.begin(rank, chunk);
    if (from != to) bulk_copy(to, from, bytes, whole_);
  }
  void take(size_t chunk) override {
    for (int rank : ranks_after(window_.rank(), window_.size()))
      bulk_copy(data_ + parts_.begin(rank, chunk), window_.slot_of(rank, chunk), parts_.size(rank, chunk),
                whole_);
  }

 private:
  const NodeWindow& window_;
  ByteParts parts_;
  size_t whole_;  // bytes of `data`
  const std::byte* own_;
  std::byte* data_;
};

/// Slots that hold a piece for each of the other ranks.
struct Pieces {
  static size_t bytes(int ranks) {
    return kSlotBytes / static_cast<size_t>(std::max(1, ranks - 1)) / 64 * 64;
  }
  /// Where `reader` finds its piece in a slot of `writer`.
  static size_t offset(int writer, int reader, int ranks) {
    return static_cast<size_t>((reader - writer - 1 + ranks) % ranks) * bytes(ranks);
  }
};

/// Each part of `input` goes to its rank.
class ScatterTransfer : public Transfer {
 public:
  ScatterTransfer(const NodeWindow& window, const ByteParts& parts, const std::byte* input)
      : window_(window), parts_(parts), input_(input) {}

  void put(size_t chunk, std::byte* slot) override {
    for (int rank : ranks_after(window_.rank(), window_.size()))
      std::memcpy(slot + Pieces::offset(window_.rank(), rank, window_.size()),
                  input_ + parts_.begin(rank, chunk), parts_.size(rank, chunk));
  }

 protected:
  int rank() const { return window_.rank(); }
  int size() const { return window_.size(); }
  const ByteParts& parts() const { return parts_; }
  /// The chunk of this rank's part that `from` has.
  const std::byte* piece_of(int from, size_t chunk) const {
    if (from == rank()) return input_ + parts_.begin(from, chunk);
    return window_.slot_of(from, chunk) + Pieces::offset(from, rank(), size());
  }

 private:
  const NodeWindow& window_;
  ByteParts parts_;
  const std::byte* input_;
};

class ReduceScatterTransfer final : public ScatterTransfer {
 public:
  /// `output`: the reduction of this rank's part; may be that part of `input`.
  ReduceScatterTransfer(const NodeWindow& window, const ByteParts& parts, const std::byte* input,
                        const Reduction& reduction, std::byte* output)
      : ScatterTransfer(window, parts, input),
        reduction_(reduction),
        output_(output),
        pieces_(static_cast<size_t>(window.size())) {}

  void take(size_t chunk) override {
    for (int from = 0; from < size(); ++from) pieces_[static_cast<size_t>(from)] = piece_of(from, chunk);
    const size_t offset = parts().begin(rank(), chunk) - parts().begin(rank(), 0);
    reduction_.apply(pieces_, output_ + offset,
                     static_cast<int64_t>(parts().size(rank(), chunk) / reduction_.element_bytes()));
  }

 private:
  const Reduction& reduction_;
  std::byte* output_;
  std::vector<const std::byte*> pieces_;  // by rank
};

class AllToAllTransfer final : public ScatterTransfer {
 public:
  AllToAllTransfer(const NodeWindow& window, const ByteParts& parts, const std::byte* input,
                   std::byte* output)
      : ScatterTransfer(window, parts, input), output_(output) {}

  void take(size_t chunk) override {
    for (int from = 0; from < size(); ++from)
      std::memcpy(output_ + parts().begin(from, chunk), piece_of(from, chunk), parts().size(rank(), chunk));
  }

 private:
  std::byte* output_;
};

/// One chunk: every rank puts all of `data` and reduces what all have put.
class SmallReduceTransfer final : public Transfer {
 public:
  SmallReduceTransfer(const NodeWindow& window, const Reduction& reduction, std::byte* data, int64_t elements)
      : window_(window), reduction_(reduction), data_(data), elements_(elements) {}

  void put(size_t, std::byte* slot) override {
    std::memcpy(slot, data_, static_cast<size_t>(elements_) * reduction_.element_bytes());
  }
  void take(size_t chunk) override {
    std::vector<const std::byte*> inputs;
    for (int rank = 0; rank < window_.size(); ++rank) inputs.push_back(window_.slot_of(rank, chunk));
    inputs[static_cast<size_t>(window_.rank())] = data_;
    reduction_.apply(inputs, data_, elements_);
  }

 private:
  const NodeWindow& window_;
  const Reduction& reduction_;
  std::byte* data_;
  int64_t elements_;
};

class BroadcastTransfer final : public Transfer {
 public:
  BroadcastTransfer(const NodeWindow& window, std::byte* data, size_t bytes, int root)
      : window_(window), data_(data), bytes_(bytes), root_(root) {}

  void put(size_t chunk, std::byte* slot) override {
    std::memcpy(slot, data_ + chunk * kSlotBytes, size(chunk));
  }
  void take(size_t chunk) override {
    bulk_copy(data_ + chunk * kSlotBytes, window_.slot_of(root_, chunk), size(chunk), bytes_);
  }

 private:
  size_t size(size_t chunk) const { return std::min(kSlotBytes, bytes_ - chunk * kSlotBytes); }

  const NodeWindow& window_;
  std::byte* data_;
  size_t bytes_;
  int root_;
};

}  // namespace

Flow through_window(MpiOperation& operation, NodeWindow& window, Flow by_window, Flow by_messages) {
  if (window.is_opened() && !window.is_usable()) {
    co_await by_messages;
    co_return;
  }
  co_await window.next_turn();
  const NodeWindow::Turn turn(window, operation.thread());
  if (!window.is_opened()) {
    Flow open = window.open(operation);
    co_await open;
  }
  if (window.is_usable()) {
    co_await by_window;
  } else {
    co_await by_messages;
  }
}

Flow all_gather_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor input, at::Tensor output) {
  const ByteParts parts({.elements = output.numel(), .ranks = window.size()}, output.element_size(),
                        kSlotBytes);
  GatherTransfer transfer(window, parts, bytes_of(input), mutable_bytes_of(output));
  co_await run_transfer(operation, window, transfer, parts.chunks());
}

Flow reduce_scatter_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor input,
                              at::Tensor output, ReduceOp op) {
  const Reduction reduction(input.scalar_type(), op);
  const ByteParts parts({.elements = input.numel(), .ranks = window.size()}, reduction.element_bytes(),
                        Pieces::bytes(window.size()));
  ReduceScatterTransfer transfer(window, parts, bytes_of(input), reduction, mutable_bytes_of(output));
  co_await run_transfer(operation, window, transfer, parts.chunks());
}

Flow all_reduce_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor tensor, ReduceOp op) {
  const Reduction reduction(tensor.scalar_type(), op);
  std::byte* data = mutable_bytes_of(tensor);
  if (tensor.nbytes() <= kSmallReduceBytes) {
    SmallReduceTransfer transfer(window, reduction, data, tensor.numel());
    co_await run_transfer(operation, window, transfer, tensor.numel() > 0 ? 1 : 0);
    co_return;
  }
  const Parts elements{.elements = tensor.numel(), .ranks = window.size()};
  const ByteParts pieces(elements, reduction.element_bytes(), Pieces::bytes(window.size()));
  std::byte* own = data + pieces.begin(window.rank(), 0);
  ReduceScatterTransfer scatter(window, pieces, data, reduction, own);
  co_await run_transfer(operation, window, scatter, pieces.chunks());
  const ByteParts parts(elements, reduction.element_bytes(), kSlotBytes);
  GatherTransfer gather(window, parts, own, data);
  co_await run_transfer(operation, window, gather, parts.chunks());
}

Flow broadcast_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor tensor, int root) {
  BroadcastTransfer transfer(window, mutable_bytes_of(tensor), tensor.nbytes(), root);
  co_await run_transfer(operation, window, transfer, (tensor.nbytes() + kSlotBytes - 1) / kSlotBytes, root);
}

Flow all_to_all_in_window(MpiOperation& operation, NodeWindow& window, at::Tensor input, at::Tensor output) {
  const ByteParts parts({.elements = input.numel(), .ranks = window.size()}, input.element_size(),
                        Pieces::bytes(window.size()));
  AllToAllTransfer transfer(window, parts, bytes_of(input), mutable_bytes_of(output));
  co_await run_transfer(operation, window, transfer, parts.chunks());
}

}  // namespace tmd::comm
