// After its first passes the engine takes no memory: everything that it needs is there.

#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "mpi_main.h"
#include "sharding/adamw.h"
#include "sharding/gradient_sink.h"
#include "sharding/initialise.h"
#include "sharding/memory_counter.h"
#include "sharding/run_unit.h"

namespace {

constexpr size_t kLarge = 8 << 10;  // lists of tasks and tensors are smaller, shards and scratch are larger
std::atomic<int64_t> large_blocks = 0;

void* counted(size_t bytes) {
  if (bytes >= kLarge) ++large_blocks;
  if (void* block = std::malloc(bytes)) return block;
  throw std::bad_alloc();
}

}  // namespace

// Of the whole program, the thread that communicates included.
void* operator new(size_t bytes) { return counted(bytes); }
void* operator new[](size_t bytes) { return counted(bytes); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, size_t) noexcept { std::free(block); }
void operator delete[](void* block, size_t) noexcept { std::free(block); }

namespace tmd::sharding {
namespace {

std::vector<UnitSpec> units() {
  std::vector<UnitSpec> units;
  for (const char* name : {"a", "b", "c"}) {
    const std::string prefix = std::string(name) + ".";
    UnitSpec& unit = units.emplace_back(UnitSpec{.name = name, .params = {}});
    unit.params.push_back({.name = prefix + "w", .shape = {192, 256}, .init = Initialiser::normal(1)});
    unit.params.push_back({.name = prefix + "scale", .shape = {301}, .init = Initialiser::normal(1)});
    unit.params.back().wide = true;
  }
  return units;
}

/// A trained network and a frozen one, in phases as a step of stage 2 has them; compute is left out, so that
/// whatever is allocated is the engine's.
class Steps {
 public:
  Steps(const Mesh& mesh, at::ScalarType type)
      : trained_("trained", units(), mesh, type, true, buffers_, &arena_),
        other_("other", units(), mesh, type, true, buffers_, &arena_),
        frozen_("frozen", units(), mesh, type, false, buffers_),
        optimizer_(trained_) {
    for (ShardedNetwork* network : {&trained_, &other_, &frozen_}) initialise(*network, 5);
    average_.emplace(trained_);
    const ShardedNetwork::Gathered gathered = trained_.gather(0);
    for (const at::Tensor& param : gathered.params) gradients_.push_back(at::ones_like(param));
  }

  void run() {
    buffers_.begin_phase("step");
    for (ShardedNetwork* network : {&trained_, &frozen_}) {
      for (int unit = 0; unit < network->units(); ++unit) network->gather(unit);
    }
    for (int unit = trained_.units() - 1; unit >= 0; --unit) {
      trained_.gather(unit);
      for (int pass = 0; pass < 2; ++pass) {  // the second one adds
        GradientSink sink(trained_, unit);
        for (size_t i = 0; i < gradients_.size(); ++i) sink.put(static_cast<int>(i), gradients_[i]);
        sink.finish();
      }
    }
    buffers_.end_phase();
    trained_.reduce_over_replicas();
    const double norm = gradient_norm({&trained_});
    optimizer_.step({.lr = 1e-3}, clip_factor(norm, 1), &*average_, 0.9);
    trained_.zero_gradients();
  }

 private:
  GatherBuffers buffers_;
  GradientArena arena_;
  ShardedNetwork trained_, other_, frozen_;
  AdamW optimizer_;
  std::optional<ExponentialAverage> average_;
  std::vector<at::Tensor> gradients_;
};

TEST(SteadyState, passes_after_the_first_take_no_memory) {
  install_memory_counter();
  const int64_t n = test::world().size();
  std::vector<MeshShape> shapes = {{.replicate = 1, .shard = n},
                                   {.replicate = n, .shard = 1},
                                   {.replicate = n, .shard = 1, .two_level = true}};
  if (n == 4) shapes.push_back({.replicate = 2, .shard = 2, .two_level = true});
  for (const MeshShape& shape : shapes) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Mesh mesh(shape, test::world());
      {
        Steps steps(mesh, type);
        for (int i = 0; i < 2; ++i) steps.run();
        MemoryCounter& counter = MemoryCounter::process();
        counter.reset_peak();
        const int64_t before = counter.live(), blocks = large_blocks;
        for (int i = 0; i < 3; ++i) steps.run();
        EXPECT_EQ(counter.live(), before) << shape.to_string();
        EXPECT_LT(counter.peak().total - before, static_cast<int64_t>(kLarge)) << shape.to_string();
        EXPECT_EQ(large_blocks, blocks) << shape.to_string();
      }
      mesh.close();
    }
  }
}

// A backward pass through a unit has two of its gradients at a time, not all of them.
TEST(SteadyState, gradients_leave_the_backward_pass_one_by_one) {
  install_memory_counter();
  constexpr int64_t kWidth = 256, kLayers = 8, kBytes = kWidth * kWidth * 4;
  UnitSpec unit{.name = "chain", .params = {}};
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string name = "w" + std::to_string(i);
    unit.params.push_back({.name = name, .shape = {kWidth, kWidth}, .init = Initialiser::normal(0.1)});
  }
  Mesh mesh({.replicate = 1, .shard = test::world().size()}, test::world());
  {
    GatherBuffers buffers;
    ShardedNetwork network("network", {unit}, mesh, at::kFloat, true, buffers);
    initialise(network, 3);
    const auto chain = [](std::span<const at::Tensor> params, std::span<const at::Tensor> inputs) {
      at::Tensor x = inputs[0];
      for (const at::Tensor& w : params) x = at::matmul(x, w);
      return Tensors{x};
    };
    const at::Tensor x = at::ones({2, kWidth});
    int64_t growth = 0;
    for (int pass = 0; pass < 2; ++pass) {  // the first one also takes what ATen keeps
      const at::Tensor loss = run_unit(network, 0, true, chain, {x})[0].sum();
      MemoryCounter& counter = MemoryCounter::process();
      counter.reset_peak();
      const int64_t before = counter.live();
      loss.backward();
      growth = counter.peak().total - before;
      network.zero_gradients();
    }
    EXPECT_GT(growth, kBytes / 2) << "nothing was counted";
    EXPECT_LT(growth, 3 * kBytes);
  }
  mesh.close();
}

}  // namespace
}  // namespace tmd::sharding
