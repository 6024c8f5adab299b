#include "orchestrator/doctor_speed.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <functional>

#include <ATen/ATen.h>

#include "comm/agree.h"
#include "orchestrator/doctor_judge.h"

namespace tmd::orchestrator {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 5;
// Shares of a round; what is left is for the collective.
constexpr double kProductShare = 0.45, kCopyShare = 0.25;
constexpr int64_t kSize = 512;            // of the square matrices
constexpr int64_t kCopyBytes = 32 << 20;  // beyond the caches of most hosts
constexpr int64_t kReduceBytes = 16 << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Calls a second of `call`, over at least `seconds`.
double calls_per_second(double seconds, const std::function<void()>& call) {
  const auto start = Clock::now();
  int64_t calls = 0;
  double passed = 0;
  for (; calls == 0 || passed < seconds; passed = seconds_since(start)) {
    call();
    ++calls;
  }
  return static_cast<double>(calls) / passed;
}

// The rate of every rank, on all ranks. Collective over: `world`.
std::vector<double> gather(comm::Communicator& world, double rate) {
  const at::Tensor all = at::empty({world.size()}, at::kDouble);
  world.all_gather(at::full({1}, rate, at::kDouble), all).wait();
  const auto* values = all.const_data_ptr<double>();
  return {values, values + world.size()};
}

// Calls a second, the same number on all ranks, over at least `seconds`. Collective over: `world`.
double reductions_per_second(comm::Communicator& world, const at::Tensor& tensor, double seconds) {
  double passed = 0;
  int64_t calls = 0;
  for (; calls == 0 || passed < seconds; ++calls) {
    world.barrier();
    const auto start = Clock::now();
    world.all_reduce(tensor, comm::ReduceOp::kMax).wait();
    passed += comm::agree_slowest(world, seconds_since(start));
  }
  return static_cast<double>(calls) / passed;
}

}  // namespace

Speed measure_speed(comm::Communicator& world, double seconds) {
  const double round_s = seconds / kRounds;
  const at::Tensor left = at::ones({kSize, kSize}), right = at::ones({kSize, kSize});
  at::Tensor product = at::zeros({kSize, kSize});
  const at::Tensor from = at::ones({kCopyBytes / 4}), to = at::zeros({kCopyBytes / 4});
  at::mm_out(product, left, right);  // threads and scratch memory come with the first call
  double products = 0, copies = 0, reductions = 0;
  for (int round = 0; round < kRounds; ++round) {
    world.barrier();
    products = std::max(products,
                        calls_per_second(kProductShare * round_s, [&] { at::mm_out(product, left, right); }));
    world.barrier();
    copies = std::max(copies, calls_per_second(kCopyShare * round_s, [&] {
                        std::memcpy(to.data_ptr(), from.const_data_ptr(), kCopyBytes);
                      }));
    if (world.size() == 1) continue;
    const double rest_s = (1 - kProductShare - kCopyShare) * round_s;
    reductions =
        std::max(reductions, reductions_per_second(world, to.narrow(0, 0, kReduceBytes / 4), rest_s));
  }
  const double others = static_cast<double>(world.size() - 1) / world.size();
  return {.product_gflops = gather(world, products * 2 * kSize * kSize * kSize * 1e-9),
          .copy_gb = gather(world, copies * kCopyBytes * 1e-9),
          .all_reduce_gb = reductions * 2 * kReduceBytes * others * 1e-9};
}

std::vector<Finding> judge_speed(const std::vector<RankFacts>& facts, const Speed& speed) {
  std::vector<Finding> findings{judge_rates(facts, speed.product_gflops, "matrix products", "GFLOP/s"),
                                judge_rates(facts, speed.copy_gb, "memory copy", "GB/s")};
  if (facts.size() > 1) {
    findings.push_back(
        fine("speed", "all_reduce",
             fmt::format("{:.2f} GB/s reach a rank, of {} MiB (`tmd bench comm` measures the others)",
                         speed.all_reduce_gb, kReduceBytes >> 20)));
  }
  return findings;
}

}  // namespace tmd::orchestrator
