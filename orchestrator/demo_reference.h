#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace tmd::orchestrator {

/// What the demo gave, and how long it took, on the machine whose table stands in the README: the demo.json
/// of that run, kept as configs/demo-reference.json.
///
///     {"phases": [{"name": "shapes: TMD", "seconds": 93.1}, ...],
///      "parts": {"shapes": {"TMD-N2, 2 steps": {"joint": 0.87, ...}, ...}, ...}}
class DemoReference {
 public:
  DemoReference() = default;  ///< promises nothing
  /// Throws kData when the file is missing or no such JSON.
  explicit DemoReference(const std::filesystem::path& file);

  /// Nothing when the reference run had no such number.
  std::optional<double> value(const std::string& part, const std::string& row,
                              const std::string& metric) const;
  /// 0 for a phase that the reference run did not have.
  double seconds(const std::string& phase) const;

 private:
  nlohmann::json json_;
};

/// Estimates the time left of a demo from the reference: its planned phases, scaled by how fast this machine
/// has been. Times are seconds since the demo began.
class DemoClock {
 public:
  /// `phases`: all that will be begun, in order. Nothing of `reference` is kept.
  DemoClock(const DemoReference& reference, std::vector<std::string> phases);

  /// Ends the present phase. Throws kInternal for a phase that is not the next planned one.
  void begin(const std::string& phase, double now_s);
  /// Seconds left at `now_s`; nothing while there is no reference to judge by.
  std::optional<double> left(double now_s) const;
  /// Names and seconds of the phases that have ended at `now_s`, the present one included.
  nlohmann::json phases(double now_s) const;

 private:
  struct Phase {
    std::string name;
    double planned_s;
    double begun_s = 0;
  };
  double end_of(size_t index, double now_s) const;

  std::vector<Phase> phases_;
  size_t begun_ = 0;  // phases that have begun
};

}  // namespace tmd::orchestrator
