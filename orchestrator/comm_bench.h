#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "comm/algorithm.h"
#include "comm/communicator.h"

namespace tmd::orchestrator {

/// How fast the ranks communicate, measured.
struct CommBench {
  /// One operation at one size, by one algorithm.
  struct Row {
    std::string operation;
    std::string algorithm;
    int64_t bytes = 0;    ///< of the whole buffer: output of all_gather, input of reduce_scatter, the message
    double min_s = 0;     ///< of the repeats, each the time of the slowest rank
    double median_s = 0;  ///< of the same
    double received = 0;  ///< bytes that travel to a rank in the best algorithm, as nccl-tests' bus bandwidth

    /// 1e9 bytes a second, of the median.
    double rate() const { return received / median_s * 1e-9; }
  };

  int ranks = 1;
  double copy_alone = 0;  ///< GB/s of memcpy, 64 MiB, on one rank while the others rest; bytes counted once
  double copy_all = 0;    ///< the same on all ranks at once, of the slowest
  std::vector<Row> rows;

  /// A line for each operation and size, with columns for each algorithm.
  std::string table() const;
  nlohmann::json json() const;
};

struct CommBenchPlan {
  std::vector<std::string> operations;  ///< of comm_bench_operations()
  int64_t largest_bytes = 64 << 20;
  int64_t repeats = 9;
};

/// all_gather, reduce_scatter, all_reduce, all_to_all, broadcast, send_recv (half a round trip of ranks 0 and
/// 1).
const std::vector<std::string>& comm_bench_operations();

/// Measures sizes from 64 bytes in steps of 4, the algorithms taking turns within each repeat. Memory: 2
/// times the largest size on each rank. Collective over: `world`. Errors: those of communication.
CommBench measure_communication(comm::Communicator& world, const CommBenchPlan& plan);

}  // namespace tmd::orchestrator
