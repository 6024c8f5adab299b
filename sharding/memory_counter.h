#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace tmd::sharding {

/// What a tensor's memory is for. What nobody has named counts as activations.
enum class MemoryItem : uint8_t {
  kActivations,    ///< between the units of a network, and all that has no other name
  kTemporaries,    ///< inside a unit: of its forward pass, and of its recomputation and gradients
  kWeights,        ///< shards of parameters
  kGradients,      ///< shards of gradients
  kMoments,        ///< of the optimizer
  kAverage,        ///< of the weights
  kGathered,       ///< the gathered unit, which networks share
  kCommunication,  ///< input and output of reductions
  kDiscriminator,  ///< its weights, gradients and moments
  kBatch,          ///< latents and text, those read ahead included
};
inline constexpr int kMemoryItems = 10;
/// "activations", "gathered units", ...
std::string_view name(MemoryItem item);
using MemoryByItem = std::array<int64_t, kMemoryItems>;  ///< bytes, indexed by MemoryItem

/// Counts the bytes that tensors take, as their allocators are asked for them, and remembers the peak.
/// Thread: any.
class MemoryCounter {
 public:
  /// Which tensors are counted: all, or those on the meta device alone, which stands for another device.
  enum class Counts { kAll, kMetaOnly };
  explicit MemoryCounter(Counts counts = Counts::kAll) : counts_(counts) {}
  MemoryCounter(const MemoryCounter&) = delete;
  MemoryCounter& operator=(const MemoryCounter&) = delete;

  struct Peak {
    int64_t total = 0;
    MemoryByItem items{};
    std::string place;  ///< what ran: "student blocks.3 backward"; empty outside of units
  };
  int64_t live() const { return live_.load(std::memory_order_relaxed); }
  MemoryByItem live_by_item() const;
  Peak peak() const;
  /// The peak becomes what is live now.
  void reset_peak();

  /// Of this process: where everything is counted that no CountInto has claimed.
  static MemoryCounter& process();

 private:
  friend struct CountedBlock;
  void add(MemoryItem item, int64_t bytes);
  void note_peak(int64_t total);

  const Counts counts_;
  std::atomic<int64_t> live_ = 0, peak_total_ = 0;
  std::array<std::atomic<int64_t>, kMemoryItems> items_{};
  mutable std::mutex mutex_;
  Peak peak_;  // GUARDED_BY(mutex_)
};

/// Puts allocators that count in front of LibTorch's for host and meta tensors. Once, before the first
/// tensor; without it nothing is counted. An allocation that the host refuses throws kDoesNotFit, which says
/// how much was asked for, what for, and what is in use.
void install_memory_counter();

/// What this thread allocates counts as `item`, as long as the object lives. Of nested ones the outermost
/// counts, but for buffers that networks share (kGathered, kCommunication).
class MemoryTag {
 public:
  explicit MemoryTag(MemoryItem item);
  MemoryTag(const MemoryTag&) = delete;
  MemoryTag& operator=(const MemoryTag&) = delete;
  ~MemoryTag();

 private:
  MemoryItem before_;
};

/// This thread runs a unit, as long as the object lives; for messages. Borrows the names.
class MemoryPlace {
 public:
  MemoryPlace(const std::string& network, const std::string& unit, bool backward);
  MemoryPlace(const MemoryPlace&) = delete;
  MemoryPlace& operator=(const MemoryPlace&) = delete;
  ~MemoryPlace();

 private:
  const std::string *network_, *unit_;
  bool backward_;
};

/// What this thread allocates is counted by `counter`, which must outlive the tensors.
class CountInto {
 public:
  explicit CountInto(MemoryCounter& counter);
  CountInto(const CountInto&) = delete;
  CountInto& operator=(const CountInto&) = delete;
  ~CountInto();

 private:
  MemoryCounter* before_;
};

/// The memory of `tensor` counts as `item` from now on.
void count_as(const at::Tensor& tensor, MemoryItem item);

/// "1.23 GB", "45.6 MB", "789 kB", decimal.
std::string bytes_text(int64_t bytes);
/// The items that are not zero, largest first: "weights 1.2 GB, moments 2.4 GB".
std::string items_text(const MemoryByItem& items);

}  // namespace tmd::sharding
