#include "orchestrator/comm_bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <functional>
#include <memory>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "comm/agree.h"

namespace tmd::orchestrator {
namespace {

using comm::ReduceOp;
using Clock = std::chrono::steady_clock;

constexpr int64_t kSmallestBytes = 64;
constexpr int64_t kStep = 4;
constexpr int64_t kCopyBytes = 64 << 20;
// A repeat moves about this much, so that short operations are timed over many calls, at most kMostCalls.
constexpr int64_t kBytesPerRepeat = 1 << 20;
constexpr int64_t kMostCalls = 30;

/// An algorithm and the communicator that is forced to it.
struct Contender {
  std::string name;
  std::unique_ptr<comm::Communicator> comm;
};

std::vector<Contender> contenders(comm::Communicator& world) {
  std::vector<Contender> all;
  for (comm::Algorithm algorithm :
       {comm::Algorithm::kMessages, comm::Algorithm::kWindow, comm::Algorithm::kLibrary}) {
    auto forced = comm::with_algorithm(world, algorithm, comm::name(algorithm));
    if (forced) all.push_back({comm::name(algorithm), std::move(forced)});
  }
  return all;
}

/// The tensors of all measurements, and one call of each operation.
class Calls {
 public:
  explicit Calls(int64_t largest_bytes)
      : from_(at::ones({largest_bytes / 4}, at::kFloat)), to_(at::zeros({largest_bytes / 4}, at::kFloat)) {}

  /// `elements`: of the whole buffer, a multiple of the ranks.
  void run(comm::Communicator& comm, const std::string& operation, int64_t elements) {
    const at::Tensor from = from_.narrow(0, 0, elements), to = to_.narrow(0, 0, elements);
    const int64_t share = elements / comm.size();
    if (operation == "all_gather") comm.all_gather(from.narrow(0, 0, share), to).wait();
    if (operation == "reduce_scatter")
      comm.reduce_scatter(from, to.narrow(0, 0, share), ReduceOp::kSum).wait();
    if (operation == "all_reduce") comm.all_reduce(to, ReduceOp::kMax).wait();  // numbers stay finite
    if (operation == "all_to_all") comm.all_to_all(from, to).wait();
    if (operation == "broadcast") comm.broadcast(to, 0).wait();
    if (operation == "send_recv") round_trip(comm, from, to);
  }

 private:
  static void round_trip(comm::Communicator& comm, const at::Tensor& from, const at::Tensor& to) {
    if (comm.rank() == 0) {
      comm.send(from, 1, 0).wait();
      comm.recv(to, 1, 0).wait();
    } else if (comm.rank() == 1) {
      comm.recv(to, 0, 0).wait();
      comm.send(from, 0, 0).wait();
    }
  }

  at::Tensor from_, to_;  // [largest]
};

// Bytes that have to reach a rank, and how many such operations one call is.
double received_bytes(const std::string& operation, double bytes, int ranks) {
  const double others = static_cast<double>(ranks - 1) / ranks;
  if (operation == "broadcast" || operation == "send_recv") return bytes;
  return operation == "all_reduce" ? 2 * bytes * others : bytes * others;
}

/// Seconds that `action` takes on the slowest rank, all beginning together.
double time_on_all(comm::Communicator& comm, const std::function<void()>& action) {
  comm.barrier();
  const auto start = Clock::now();
  action();
  return comm::agree_slowest(comm, std::chrono::duration<double>(Clock::now() - start).count());
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double copy_rate(comm::Communicator& world, bool on_all, int64_t repeats) {
  const at::Tensor from = at::ones({kCopyBytes / 4}), to = at::zeros({kCopyBytes / 4});
  std::vector<double> times;
  for (int64_t i = 0; i <= repeats; ++i) {
    times.push_back(time_on_all(world, [&] {
      if (on_all || world.rank() == 0) std::memcpy(to.data_ptr(), from.const_data_ptr(), kCopyBytes);
    }));
  }
  times.erase(times.begin());  // the first touch
  return kCopyBytes / median(times) * 1e-9;
}

void measure(std::vector<CommBench::Row>& rows, comm::Communicator& world,
             const std::vector<Contender>& contenders, Calls& calls, const std::string& operation,
             int64_t bytes, int64_t repeats) {
  const int64_t unit = 4 * world.size(), whole = std::max<int64_t>(1, bytes / unit) * unit;
  const int64_t count = std::clamp<int64_t>(kBytesPerRepeat / whole, 1, kMostCalls);
  const bool is_message = operation == "send_recv";
  const size_t algorithms = is_message ? 1 : contenders.size();  // messages know one way only
  std::vector<std::vector<double>> times(algorithms);
  for (int64_t repeat = 0; repeat <= repeats; ++repeat) {
    for (size_t i = 0; i < algorithms; ++i) {
      comm::Communicator& comm = *contenders[i].comm;
      const double total_s = time_on_all(world, [&] {
        for (int64_t call = 0; call < count; ++call) calls.run(comm, operation, whole / 4);
      });
      // The first one warms up. A round trip is two messages.
      if (repeat > 0) times[i].push_back(total_s / static_cast<double>(is_message ? 2 * count : count));
    }
  }
  for (size_t i = 0; i < algorithms; ++i) {
    rows.push_back({.operation = operation,
                    .algorithm = contenders[i].name,
                    .bytes = whole,
                    .min_s = *std::ranges::min_element(times[i]),
                    .median_s = median(times[i]),
                    .received = received_bytes(operation, static_cast<double>(whole), world.size())});
  }
}

}  // namespace

const std::vector<std::string>& comm_bench_operations() {
  static const std::vector<std::string> names{"all_gather", "reduce_scatter", "all_reduce",
                                              "all_to_all", "broadcast",      "send_recv"};
  return names;
}

CommBench measure_communication(comm::Communicator& world, const CommBenchPlan& plan) {
  CommBench bench{.ranks = world.size(),
                  .copy_alone = copy_rate(world, /*on_all=*/false, plan.repeats),
                  .copy_all = copy_rate(world, /*on_all=*/true, plan.repeats),
                  .rows = {}};
  if (world.size() == 1) return bench;
  const std::vector<Contender> all = contenders(world);
  Calls calls(std::max(plan.largest_bytes, kSmallestBytes * world.size()));
  for (const std::string& operation : plan.operations) {
    for (int64_t bytes = kSmallestBytes; bytes <= plan.largest_bytes; bytes *= kStep)
      measure(bench.rows, world, all, calls, operation, bytes, plan.repeats);
  }
  for (const Contender& contender : all) contender.comm->close();
  return bench;
}

std::string CommBench::table() const {
  std::string text = fmt::format(
      "{} ranks. memcpy of 64 MiB: {:.1f} GB/s on one rank, {:.1f} GB/s on each of all at once.\n", ranks,
      copy_alone, copy_all);
  if (rows.empty()) return text + "One rank communicates with nobody: start more with mpirun.\n";
  text +=
      "bytes: of the whole buffer. GB/s: bytes that a rank gets from others / median time, with b = bytes "
      "and "
      "n = ranks:\n"
      "b (n-1)/n, all_reduce 2 b (n-1)/n, broadcast and send_recv b; send_recv is half a round trip.\n\n";
  text += fmt::format("{:<15}{:>10}  {:<10}{:>12}{:>12}{:>9}\n", "operation", "bytes", "algorithm", "min us",
                      "median us", "GB/s");
  for (const Row& row : rows) {
    text += fmt::format("{:<15}{:>10}  {:<10}{:>12.1f}{:>12.1f}{:>9.3f}\n", row.operation, row.bytes,
                        row.algorithm, row.min_s * 1e6, row.median_s * 1e6, row.rate());
  }
  return text;
}

nlohmann::json CommBench::json() const {
  nlohmann::json list = nlohmann::json::array();
  for (const Row& row : rows) {
    list.push_back({{"operation", row.operation},
                    {"algorithm", row.algorithm},
                    {"bytes", row.bytes},
                    {"min_s", row.min_s},
                    {"median_s", row.median_s},
                    {"gb_per_s", row.rate()}});
  }
  return {{"ranks", ranks}, {"memcpy_gb_per_s", {{"alone", copy_alone}, {"all", copy_all}}}, {"rows", list}};
}

}  // namespace tmd::orchestrator
