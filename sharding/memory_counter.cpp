#include "sharding/memory_counter.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::sharding {

// Stands in front of a block of host memory, and alone for a block of the meta device.
struct CountedBlock {
  MemoryCounter* counter;  // null: this one is not counted
  int64_t bytes;
  MemoryItem item;

  static CountedBlock here(size_t bytes, bool is_meta);
  void release() const {
    if (counter) counter->add(item, -bytes);
  }
  void move_to(MemoryItem other) {
    if (counter) {
      counter->items_[static_cast<int>(item)].fetch_sub(bytes, std::memory_order_relaxed);
      counter->items_[static_cast<int>(other)].fetch_add(bytes, std::memory_order_relaxed);
    }
    item = other;
  }
};

namespace {

struct ThreadState {
  MemoryItem item = MemoryItem::kActivations;
  MemoryCounter* counter = nullptr;  // null: the process's
  const std::string *network = nullptr, *unit = nullptr;
  bool backward = false;
};
thread_local ThreadState thread_state;

std::string place_text() {
  if (!thread_state.unit) return {};
  return fmt::format("{} {} {}", *thread_state.network, *thread_state.unit,
                     thread_state.backward ? "backward" : "forward");
}

Error out_of_memory(size_t bytes) {
  const MemoryCounter& counter = thread_state.counter ? *thread_state.counter : MemoryCounter::process();
  const std::string place = place_text();
  return Error(
      ErrorKind::kDoesNotFit,
      fmt::format("the host gives no {} for {}{}; {} are in use: {}", bytes_text(static_cast<int64_t>(bytes)),
                  name(thread_state.item), place.empty() ? "" : " (" + place + ")",
                  bytes_text(counter.live()), items_text(counter.live_by_item())),
      "`tmd plan` says what a rank needs, and which changes make it fit");
}

constexpr size_t kHeaderBytes = 64;  // keeps the alignment of what follows
static_assert(sizeof(CountedBlock) <= kHeaderBytes);

CountedBlock& header_of(void* data) {
  return *reinterpret_cast<CountedBlock*>(static_cast<std::byte*>(data) - kHeaderBytes);
}

void free_on_host(void* data) {
  if (!data) return;
  CountedBlock& block = header_of(data);
  block.release();
  c10::free_cpu(&block);
}

void free_on_meta(void* context) {
  if (!context) return;
  const auto* block = static_cast<CountedBlock*>(context);
  block->release();
  delete block;
}

class HostAllocator final : public c10::Allocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &free_on_host, at::Device(at::kCPU)};
    void* memory = nullptr;
    try {
      memory = c10::alloc_cpu(bytes + kHeaderBytes);
    } catch (const c10::Error&) {
      throw out_of_memory(bytes);
    }
    new (memory) CountedBlock(CountedBlock::here(bytes, /*is_meta=*/false));
    void* data = static_cast<std::byte*>(memory) + kHeaderBytes;
    return {data, data, &free_on_host, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &free_on_host; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

class MetaAllocator final : public c10::Allocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    auto* block = new CountedBlock(CountedBlock::here(bytes, /*is_meta=*/true));
    return {nullptr, block, &free_on_meta, at::Device(at::kMeta)};
  }
  at::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}
};

}  // namespace

CountedBlock CountedBlock::here(size_t bytes, bool is_meta) {
  const ThreadState& state = thread_state;
  MemoryCounter* counter = state.counter ? state.counter : &MemoryCounter::process();
  if (!is_meta && counter->counts_ == MemoryCounter::Counts::kMetaOnly) counter = nullptr;
  const CountedBlock block{counter, static_cast<int64_t>(bytes), state.item};
  if (counter) counter->add(block.item, block.bytes);
  return block;
}

std::string_view name(MemoryItem item) {
  static constexpr std::string_view kNames[kMemoryItems] = {
      "activations",       "temporaries",    "weights",        "gradients",
      "optimizer moments", "weight average", "gathered units", "communication buffers",
      "discriminator",     "batch"};
  return kNames[static_cast<int>(item)];
}

MemoryCounter& MemoryCounter::process() {
  static MemoryCounter counter;
  return counter;
}

void MemoryCounter::add(MemoryItem item, int64_t bytes) {
  items_[static_cast<int>(item)].fetch_add(bytes, std::memory_order_relaxed);
  const int64_t total = live_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (total > peak_total_.load(std::memory_order_relaxed)) note_peak(total);
}

void MemoryCounter::note_peak(int64_t total) {
  const std::lock_guard lock(mutex_);
  if (total <= peak_.total) return;
  peak_total_.store(total, std::memory_order_relaxed);
  peak_ = {.total = total, .items = live_by_item(), .place = place_text()};
}

MemoryByItem MemoryCounter::live_by_item() const {
  MemoryByItem bytes{};
  for (int i = 0; i < kMemoryItems; ++i) bytes[i] = items_[i].load(std::memory_order_relaxed);
  return bytes;
}

MemoryCounter::Peak MemoryCounter::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

void MemoryCounter::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = {.total = live(), .items = live_by_item(), .place = {}};
  peak_total_.store(peak_.total, std::memory_order_relaxed);
}

void install_memory_counter() {
  static HostAllocator host;
  static MetaAllocator meta;
  c10::SetAllocator(at::kCPU, &host, /*priority=*/1);
  c10::SetAllocator(at::kMeta, &meta, /*priority=*/1);
}

MemoryTag::MemoryTag(MemoryItem item) : before_(thread_state.item) {
  const bool is_shared = item == MemoryItem::kGathered || item == MemoryItem::kCommunication;
  if (is_shared || before_ == MemoryItem::kActivations) thread_state.item = item;
}

MemoryTag::~MemoryTag() { thread_state.item = before_; }

MemoryPlace::MemoryPlace(const std::string& network, const std::string& unit, bool backward)
    : network_(std::exchange(thread_state.network, &network)),
      unit_(std::exchange(thread_state.unit, &unit)),
      backward_(std::exchange(thread_state.backward, backward)) {}

MemoryPlace::~MemoryPlace() {
  thread_state.network = network_;
  thread_state.unit = unit_;
  thread_state.backward = backward_;
}

CountInto::CountInto(MemoryCounter& counter) : before_(std::exchange(thread_state.counter, &counter)) {}

CountInto::~CountInto() { thread_state.counter = before_; }

void count_as(const at::Tensor& tensor, MemoryItem item) {
  if (!tensor.defined() || !tensor.has_storage()) return;
  const at::DataPtr& data = tensor.storage().data_ptr();
  if (data.get_deleter() == &free_on_host && data.get_context()) header_of(data.get_context()).move_to(item);
  if (data.get_deleter() == &free_on_meta) static_cast<CountedBlock*>(data.get_context())->move_to(item);
}

std::string bytes_text(int64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes >= 1000000000) return fmt::format("{:.2f} GB", value / 1e9);
  if (bytes >= 1000000) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.1f} kB", value / 1e3);
}

std::string items_text(const MemoryByItem& items) {
  std::vector<int> order;
  for (int i = 0; i < kMemoryItems; ++i) {
    if (items[i] > 0) order.push_back(i);
  }
  std::ranges::stable_sort(order, std::greater<>(), [&](int i) { return items[i]; });
  std::string text;
  for (int i : order) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name(static_cast<MemoryItem>(i)),
                        bytes_text(items[i]));
  }
  return text;
}

}  // namespace tmd::sharding
