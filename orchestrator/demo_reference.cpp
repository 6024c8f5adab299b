#include "orchestrator/demo_reference.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>

#include "base/error.h"

namespace tmd::orchestrator {

using nlohmann::json;

namespace {

const json* member(const json* object, const std::string& key) {
  if (!object || !object->is_object()) return nullptr;
  const auto found = object->find(key);
  return found == object->end() ? nullptr : &*found;
}

}  // namespace

DemoReference::DemoReference(const std::filesystem::path& file) {
  std::ifstream in(file);
  json_ = json::parse(in, nullptr, /*allow_exceptions=*/false);
  check(in.is_open() && json_.is_object(), ErrorKind::kData,
        fmt::format("{} is missing or no JSON object", file.string()), "restore it from the repository");
}

std::optional<double> DemoReference::value(const std::string& part, const std::string& row,
                                           const std::string& metric) const {
  const json* found = member(member(member(member(&json_, "parts"), part), row), metric);
  if (!found || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

double DemoReference::seconds(const std::string& phase) const {
  const json* phases = member(&json_, "phases");
  if (!phases) return 0;
  for (const json& entry : *phases) {
    const json* name = member(&entry, "name");
    const json* seconds = member(&entry, "seconds");
    if (name && seconds && *name == json(phase) && seconds->is_number()) return seconds->get<double>();
  }
  return 0;
}

DemoClock::DemoClock(const DemoReference& reference, std::vector<std::string> phases) {
  for (std::string& name : phases) {
    const double planned = reference.seconds(name);
    phases_.push_back({std::move(name), planned});
  }
}

void DemoClock::begin(const std::string& phase, double now_s) {
  ensure(begun_ < phases_.size() && phases_[begun_].name == phase,
         "the demo goes through its planned phases in order");
  phases_[begun_++].begun_s = now_s;
}

double DemoClock::end_of(size_t index, double now_s) const {
  return index + 1 < begun_ ? phases_[index + 1].begun_s : now_s;
}

std::optional<double> DemoClock::left(double now_s) const {
  double planned_done = 0, taken = 0, planned_left = 0;
  for (size_t i = 0; i < phases_.size(); ++i) {
    if (i + 1 < begun_) {
      planned_done += phases_[i].planned_s;
      taken += end_of(i, now_s) - phases_[i].begun_s;
    } else {
      planned_left += phases_[i].planned_s;
    }
  }
  if (planned_left == 0) return std::nullopt;
  // Phases that a second start finds finished take no time and say nothing about the machine.
  const double pace = planned_done > 0 ? std::clamp(taken / planned_done, 0.3, 10.0) : 1.0;
  const double in_phase = begun_ > 0 ? now_s - phases_[begun_ - 1].begun_s : 0;
  return std::max(0.0, pace * planned_left - in_phase);
}

json DemoClock::phases(double now_s) const {
  json list = json::array();
  for (size_t i = 0; i < begun_; ++i) {
    list.push_back({{"name", phases_[i].name}, {"seconds", end_of(i, now_s) - phases_[i].begun_s}});
  }
  return list;
}

}  // namespace tmd::orchestrator
