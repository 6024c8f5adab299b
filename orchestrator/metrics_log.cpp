#include "orchestrator/metrics_log.h"

#include <cmath>
#include <fmt/format.h>
#include <fstream>
#include <span>
#include <sstream>
#include <sys/resource.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"

namespace tmd::orchestrator {
namespace {

using nlohmann::json;

// Wall time that none of the named phases explains.
double other_seconds(const IterationRecord& r) {
  const workers::IterationTime& t = r.report.time;
  return r.total_s - t.data - t.gather_exposed - t.compute - t.reduce_exposed - t.exchange_exposed -
         t.optimizer - r.checkpoint_s;
}

json line_of(const IterationRecord& r) {
  const workers::IterationTime& t = r.report.time;
  const MemoryUse memory = memory_use();
  return {{"iteration", r.iteration},
          {"stage", r.stage},
          {"phase", method::name(r.report.phase)},
          {"student_updates", r.student_updates},
          {"samples", r.samples},
          {"loss", r.report.loss},
          {"diag", r.report.diag},
          {"grad_norm", r.report.grad_norm},
          {"lr", r.report.lr},
          {"skipped", r.report.skipped},
          {"time",
           {{"total", r.total_s},
            {"data", t.data},
            {"gather_exposed", t.gather_exposed},
            {"compute", t.compute},
            {"reduce_exposed", t.reduce_exposed},
            {"exchange_exposed", t.exchange_exposed},
            {"optimizer", t.optimizer},
            {"checkpoint", r.checkpoint_s},
            {"other", other_seconds(r)}}},
          {"mem", {{"resident", memory.resident}, {"peak", memory.peak}, {"tensors", r.tensor_peak}}}};
}

json to_json(const IterationRecord& r) {
  json line = line_of(r);
  if (!r.evaluation.is_null()) line["eval"] = r.evaluation;
  return line;
}

// A line that was cut off by a kill in the middle of a write is dropped with what follows it.
std::string lines_up_to(const std::filesystem::path& path, int64_t last_iteration) {
  std::ifstream in(path);
  std::string kept, line;
  while (std::getline(in, line)) {
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (in.eof() || object.is_discarded() || object.value("iteration", int64_t{0}) > last_iteration) break;
    kept += line + "\n";
  }
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, int64_t last_iteration)
    : file_(File::open_to_write(path)) {
  const std::string lines = lines_up_to(path, last_iteration);
  written_bytes_ = lines.size();
  file_.resize(written_bytes_);
}

void MetricsLog::write_kept() {
  file_.write_at(written_bytes_, std::as_bytes(std::span(kept_)));
  written_bytes_ += kept_.size();
  kept_.clear();
}

void MetricsLog::write(const IterationRecord& record) {
  kept_ += to_json(record).dump() + "\n";
  try {
    write_kept();
    if (is_refused_) log_info("{} is written again", file_.path().string());
    is_refused_ = false;
  } catch (const Error& e) {
    if (!is_refused_) log_warning("training goes on, its metrics wait in memory: {}", e.what());
    is_refused_ = true;
  }
}

void MetricsLog::sync() {
  try {
    file_.sync();
  } catch (const Error& e) {
    if (!is_refused_) log_warning("the metrics may not survive a crash of this host: {}", e.what());
  }
}

void MetricsLog::close() {
  write_kept();
  file_.close();
}

MemoryUse memory_use() {
  MemoryUse use;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  use.peak = usage.ru_maxrss * 1024;
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  if (statm >> total >> resident) use.resident = resident * sysconf(_SC_PAGESIZE);
  return use;
}

std::string duration_text(double seconds) {
  const int64_t s = static_cast<int64_t>(std::ceil(std::max(0.0, seconds)));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02d}s", s / 60, s % 60);
  return fmt::format("{}h{:02d}m", s / 3600, s / 60 % 60);
}

std::string console_line(const IterationRecord& r, double seconds_left) {
  std::ostringstream line;
  line << fmt::format("step {}/{} {:<7}", r.iteration, r.total_iterations, method::name(r.report.phase));
  for (const auto& [name, value] : r.report.loss) line << fmt::format(" {}={:.4g}", name, value);
  for (const auto& [name, value] : r.report.grad_norm) line << fmt::format(" |g|.{}={:.3g}", name, value);
  if (r.report.skipped) line << " SKIPPED (gradient not finite)";
  const workers::IterationTime& t = r.report.time;
  const auto share = [&r](double s) { return 100 * s / std::max(r.total_s, 1e-9); };
  line << fmt::format(
      " {:.3f}s (data {:.0f}% gather {:.0f}% compute {:.0f}% reduce {:.0f}% optimizer {:.0f}% checkpoint "
      "{:.0f}% other "
      "{:.0f}%)",
      r.total_s, share(t.data), share(t.gather_exposed), share(t.compute), share(t.reduce_exposed),
      share(t.optimizer), share(r.checkpoint_s), share(other_seconds(r)));
  line << fmt::format(" mem {:.2f}G eta {}", static_cast<double>(memory_use().resident) / 1e9,
                      duration_text(seconds_left));
  return line.str();
}

}  // namespace tmd::orchestrator
