#include "orchestrator/device_model.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/host_memory.h"

namespace tmd::orchestrator {
namespace {

constexpr double kOptimizerPasses = 7;  // weights, moments and gradient are read, all but the last written

// What an H100 SXM reaches in such networks, of 989 (bfloat16) and 67 (float32) TFLOP/s and 3.35 TB/s.
DeviceModel h100(at::ScalarType type) {
  const bool narrow = type == at::kBFloat16, wide = type == at::kDouble;
  return {.name = "H100",
          .is_host = false,
          .memory_bytes = 80'000'000'000,
          .product_rate = narrow ? 600e12
                          : wide ? 45e12
                                 : 50e12,
          .attention_rate = narrow ? 400e12
                            : wide ? 30e12
                                   : 40e12,
          .memory_rate = 2.5e12,
          .near_rate = 300e9,
          .far_rate = 45e9,
          .near_ranks = 8};
}

double seconds_of(const auto& action) {
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    action();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

DeviceModel this_host(int ranks, at::ScalarType type) {
  const std::optional<uint64_t> available = available_memory();
  check(available.has_value(), ErrorKind::kUnavailable, "this system does not say how much memory is free",
        "give the bytes of a rank, as in --device 16GB");
  const int64_t n = 768;
  const at::Tensor a = at::ones({n, n}, type), b = at::ones({n, n}, type);
  const double product = 2.0 * static_cast<double>(n * n * n) / seconds_of([&] { at::mm(a, b); });
  const at::Tensor from = at::ones({1 << 24}, at::kByte), to = at::empty_like(from);
  const double copy = 2.0 * static_cast<double>(from.numel()) / seconds_of([&] { to.copy_(from); });
  return {.name = "cpu",
          .is_host = true,
          .memory_bytes = static_cast<int64_t>(*available) / ranks,
          .product_rate = product,
          .attention_rate = product / 2,
          .memory_rate = copy / 2,
          .near_rate = copy / 8,
          .far_rate = 1e9,
          .near_ranks = ranks};
}

}  // namespace

std::string DeviceModel::describe() const {
  return fmt::format(
      "{}, {} a rank; products {:.3g} and attention {:.3g} TFLOP/s, memory {:.3g} GB/s, links {:.3g} GB/s "
      "among {} "
      "ranks and {:.3g} GB/s beyond",
      name, sharding::bytes_text(memory_bytes), product_rate / 1e12, attention_rate / 1e12, memory_rate / 1e9,
      near_rate / 1e9, near_ranks, far_rate / 1e9);
}

int64_t bytes_of(const std::string& option, const std::string& text, const std::string& hint) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  static const std::map<std::string, double> units = {
      {"", 1},      {"B", 1},        {"kB", 1e3},        {"MB", 1e6},          {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  const bool known = error == std::errc() && units.contains(unit) && value >= 1 && value < 1e18;
  check(known, ErrorKind::kUsage, fmt::format("--{} {}: no number of bytes", option, text), hint);
  return static_cast<int64_t>(value * units.at(unit));
}

DeviceModel device_model(const std::string& text, int ranks, at::ScalarType type) {
  if (text == "cpu") return this_host(ranks, type);
  DeviceModel device = h100(type);
  if (text != "h100")
    device.memory_bytes = bytes_of("device", text, "h100, cpu, or bytes of a rank: 80e9, 80GB, 512MiB");
  return device;
}

IterationEstimate estimate(const DeviceModel& device, const PhaseNeed& need, int64_t stepped_elements) {
  IterationEstimate result;
  result.compute = need.cost.product_flops / device.product_rate +
                   need.cost.attention_flops / device.attention_rate +
                   need.cost.moved_bytes / device.memory_rate;
  for (const auto& [group, traffic] : need.traffic) {
    const bool near = traffic.span <= device.near_ranks;
    result.communication +=
        static_cast<double>(traffic.sent_bytes) / (near ? device.near_rate : device.far_rate);
  }
  result.optimizer = kOptimizerPasses * 4 * static_cast<double>(stepped_elements) / device.memory_rate;
  return result;
}

}  // namespace tmd::orchestrator
