#include "orchestrator/probe.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fstream>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/publish.h"
#include "orchestrator/run_folder.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kName = "probe.json";

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

// Losses of 1e-3 and less are differences of larger numbers.
double distance(double a, double b) { return std::abs(a - b) / (std::max(std::abs(a), std::abs(b)) + 1e-3); }

double rounding(at::ScalarType type) {
  if (type == at::kDouble) return 1e-8;
  return type == at::kBFloat16 ? 5e-2 : 1e-3;
}

}  // namespace

Probe Probe::of(const Job& job, uint64_t experiment_hash, int64_t iteration,
                const std::map<std::string, double>& loss) {
  return {.iteration = iteration,
          .loss = loss,
          .experiment_hash = experiment_hash,
          .samples = job.samples(),
          .mesh = job.mesh().shape().to_string(),
          .machine = fmt::format("tmd {}, {}, {}, {} threads", code_version(), processor(),
                                 at::get_cpu_capability(), at::get_num_threads())};
}

void Probe::write(const std::filesystem::path& checkpoint) const {
  const nlohmann::json json = {
      {"iteration", iteration}, {"loss", loss}, {"experiment_hash", fmt::format("{:016x}", experiment_hash)},
      {"samples", samples},     {"mesh", mesh}, {"machine", machine}};
  publish_file(checkpoint / kName, json.dump(1) + "\n");
}

std::optional<Probe> Probe::read(const std::filesystem::path& checkpoint) {
  const std::filesystem::path path = checkpoint / kName;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  try {
    const File file = File::open_to_read(path);
    std::string text(file.size_bytes(), '\0');
    file.read_at(0, std::as_writable_bytes(std::span(text)));
    const nlohmann::json json = nlohmann::json::parse(text);
    return Probe{.iteration = json.at("iteration"),
                 .loss = json.at("loss"),
                 .experiment_hash = std::stoull(json.at("experiment_hash").get<std::string>(), nullptr, 16),
                 .samples = json.at("samples"),
                 .mesh = json.at("mesh"),
                 .machine = json.at("machine")};
  } catch (const std::exception& e) {
    log_warning("{} cannot be used: {}", path.string(), e.what());
    return {};
  }
}

std::string Probe::compare(const Probe& found, at::ScalarType type, bool& warns) const {
  warns = false;
  if (found.experiment_hash != experiment_hash)
    return "losses are not compared with those before the start: the experiment has changed";
  warns = found.samples != samples;
  if (warns)
    return fmt::format(
        "data.files has {} samples, before the start it had {}: batches are others from now on",
        found.samples, samples);
  double largest = 0;
  for (const auto& [name, value] : loss) {
    const auto other = found.loss.find(name);
    const double apart = other == found.loss.end() ? 1 : distance(value, other->second);
    check(apart <= rounding(type), ErrorKind::kIo,
          fmt::format("iteration {} gives {} = {} with the state that was loaded; with the state that was "
                      "saved it was {}",
                      iteration, name, other == found.loss.end() ? NAN : other->second, value),
          "the state is not what it was: the memory, the file system or another version of the program. "
          "Move this checkpoint away to start from an older one; if the data was changed on purpose, remove "
          "its "
          "probe.json");
    largest = std::max(largest, value == other->second ? 0 : std::max(apart, 1e-17));
  }
  if (largest == 0)
    return fmt::format("the losses of iteration {} are those before the start, bit for bit", iteration);
  warns = found.mesh == mesh && found.machine == machine;
  return fmt::format("the losses of iteration {} are those before the start to {:.1e}{}", iteration, largest,
                     warns ? ", on the same mesh and machine" : "");
}

}  // namespace tmd::orchestrator
