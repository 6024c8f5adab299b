#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "orchestrator/metrics_log.h"
#include "orchestrator/plan.h"

namespace tmd::orchestrator {
namespace {

using sharding::kMemoryItems;

constexpr int64_t kMostDrawn = 16;  // shards of a row, replicas

struct Unit {
  double bytes;
  const char* name;
};

Unit unit_for(int64_t largest) {
  if (largest >= 1000000000) return {1e9, "GB"};
  return largest >= 1000000 ? Unit{1e6, "MB"} : Unit{1e3, "kB"};
}

// Items that some phase needs, in their order.
std::vector<int> used_items(const Plan& plan) {
  std::vector<int> items;
  for (int i = 0; i < kMemoryItems; ++i) {
    const auto uses = [i](const PlannedPhase& phase) { return phase.need.peak.items[i] > 0; };
    if (std::ranges::any_of(plan.phases, uses)) items.push_back(i);
  }
  return items;
}

std::string memory_table(const Plan& plan) {
  const Unit unit = unit_for(plan.peak());
  const std::vector<int> items = used_items(plan);
  std::string text = fmt::format("{} per rank at the peak of\n{:<22}", unit.name, "");
  for (const PlannedPhase& phase : plan.phases) text += fmt::format(" {:>18}", phase.name);
  const auto number = [&](int64_t bytes) {
    return fmt::format(" {:>18.3f}", static_cast<double>(bytes) / unit.bytes);
  };
  for (int item : items) {
    text += fmt::format("\n  {:<20}", name(static_cast<sharding::MemoryItem>(item)));
    for (const PlannedPhase& phase : plan.phases) text += number(phase.need.peak.items[item]);
  }
  text += fmt::format("\n  {:<20}", "all");
  for (const PlannedPhase& phase : plan.phases) text += number(phase.need.peak.total);
  return text + "\n";
}

std::string peak_line(const Plan& plan, const DeviceModel& device) {
  const auto& worst =
      *std::ranges::max_element(plan.phases, {}, [](const PlannedPhase& p) { return p.need.peak.total; });
  const std::string& place = worst.need.peak.place;
  return fmt::format("{} of {} a rank at the peak: {}{}\n", sharding::bytes_text(worst.need.peak.total),
                     sharding::bytes_text(device.memory_bytes), worst.name,
                     place.empty() ? "" : ", while " + place + " runs");
}

std::string time_table(const Plan& plan) {
  std::string text = fmt::format("{:<22}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}\n", "an iteration, by the model",
                                 "s", "compute", "links", "optimizer", "TFLOP", "sent GB");
  for (const PlannedPhase& phase : plan.phases) {
    if (phase.time.total() == 0) continue;
    double sent = 0;
    for (const auto& [group, traffic] : phase.need.traffic) sent += static_cast<double>(traffic.sent_bytes);
    const OperatorCost& cost = phase.need.cost;
    text += fmt::format("  {:<24}{:>12.4g}{:>12.4g}{:>12.4g}{:>12.4g}{:>12.4g}{:>12.4g}\n", phase.name,
                        phase.time.total(), phase.time.compute, phase.time.communication,
                        phase.time.optimizer, (cost.product_flops + cost.attention_flops) / 1e12, sent / 1e9);
  }
  return text;
}

}  // namespace

std::string mesh_text(const sharding::MeshShape& mesh) {
  std::string text = "mesh " + mesh.to_string() + "\n";
  const int64_t columns = std::min(mesh.shard, kMostDrawn), rows = std::min(mesh.replicate, kMostDrawn);
  for (int64_t replica = 0; replica < rows; ++replica) {
    text += fmt::format("  replica {:>2} |", replica);
    for (int64_t shard = 0; shard < columns; ++shard) {
      for (int64_t sequence = 0; sequence < mesh.sequence; ++sequence) {
        text += " ";
        for (int64_t tensor = 0; tensor < mesh.tensor; ++tensor) {
          const int64_t rank =
              ((replica * mesh.shard + shard) * mesh.sequence + sequence) * mesh.tensor + tensor;
          text += fmt::format("{}{}", tensor == 0 ? "" : "+", rank);
        }
      }
      text += " |";
    }
    text += columns < mesh.shard ? fmt::format(" ... {} shards\n", mesh.shard) : "\n";
  }
  if (rows < mesh.replicate) text += fmt::format("  ... {} replicas\n", mesh.replicate);
  if (mesh.two_level) text += "  (masters, moments and averages are cut over the replicas too)\n";
  if (mesh.sequence * mesh.tensor > 1)
    text += "  (| between shards, blanks between the ranks of a sequence, + between tensor ranks)\n";
  return text;
}

std::string plan_text(const Plan& plan, const DeviceModel& device) {
  return mesh_text(plan.mesh) +
         fmt::format("{} micro-batch{} a rank and iteration\n\n", plan.micro_batches,
                     plan.micro_batches == 1 ? "" : "es") +
         memory_table(plan) + "\n" + time_table(plan) +
         fmt::format("  all iterations {}\n\nassumed: {}; nothing overlaps\n",
                     duration_text(plan.run_seconds), device.describe()) +
         peak_line(plan, device);
}

}  // namespace tmd::orchestrator
