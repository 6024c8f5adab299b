#pragma once

#include <cstdint>
#include <string>

#include "method/schedule.h"
#include "orchestrator/dry_run.h"

namespace tmd::orchestrator {

/// What a rank's device holds and how fast it is taken to be.
struct DeviceModel {
  std::string name;
  bool is_host = false;                ///< host tensors lie in the same memory
  int64_t memory_bytes = 0;            ///< of a rank
  double product_rate = 1;             ///< FLOP/s of matrix products
  double attention_rate = 1;           ///< FLOP/s
  double memory_rate = 1;              ///< bytes/s
  double near_rate = 1, far_rate = 1;  ///< bytes/s that a rank sends within a host, and beyond
  int64_t near_ranks = 8;              ///< ranks of a host

  /// One line that lists the assumptions.
  std::string describe() const;
};

/// `text`: "h100", "cpu", or bytes ("80e9", "80GB", "512MiB") for an H100 with that memory. The rates of a
/// cpu are measured here, its memory is this host's, shared by `ranks`. Throws kUsage for any other text.
DeviceModel device_model(const std::string& text, int ranks, at::ScalarType type);

/// Bytes of "80e9", "80GB" or "512MiB". Throws kUsage for any other text, with `hint`.
int64_t bytes_of(const std::string& option, const std::string& text, const std::string& hint);

/// Seconds of an iteration by what takes them; nothing overlaps.
struct IterationEstimate {
  double compute = 0, communication = 0, optimizer = 0;
  double total() const { return compute + communication + optimizer; }
};
/// `stepped_elements`: parameters of this rank that the optimizer steps.
IterationEstimate estimate(const DeviceModel& device, const PhaseNeed& need, int64_t stepped_elements);

}  // namespace tmd::orchestrator
