#include "orchestrator/eval_compare.h"

#include <array>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "base/input_file.h"
#include "base/printable.h"
#include "base/strict_json.h"
#include "orchestrator/eval_report.h"
#include "orchestrator/evaluate.h"

namespace tmd::orchestrator {
namespace {

using evaluation::Better;
using nlohmann::json;

constexpr uint64_t kLargestFile = uint64_t{1} << 28;
// Held against the first row, that of the teacher with all its steps.
constexpr std::array kToTeacher = {"teacher_distance", "temporal_energy_to_teacher",
                                   "motion_energy_to_teacher"};
constexpr const char* kDiversity = "prompt_diversity_ratio";
constexpr const char* kDiversityTo = "prompt_diversity_ratio_to";  // "teacher" or "data", beside it
constexpr int64_t kLeastValues = 8;  // a resampled mean of fewer takes too few different values
// Of fewer pairs that differ even a unanimous verdict is luck in more than one case of twenty (sign test).
constexpr int64_t kLeastDifferent = 6;

struct File {
  std::filesystem::path path;
  json report;
};

File read_evaluation(const std::filesystem::path& path) {
  File file{path, read_strict_json(input_file(path), kLargestFile)};
  const json& report = file.report;
  check(report.is_object() && report.value("format", json()) == json(kEvaluationFormat), ErrorKind::kData,
        fmt::format("{} is no result of tmd eval", path.string()), "tmd eval --json FILE writes one");
  check(report.value("version", json()) == json(kEvaluationVersion), ErrorKind::kData,
        fmt::format("{} is of version {}, this program reads {}", path.string(),
                    printable(report.value("version", json()).dump()), kEvaluationVersion),
        "evaluate again with this program");
  return file;
}

// The hashes of the prompts of all rows, in their order.
std::vector<std::string> prompts_of(const json& report) {
  std::vector<std::string> hashes;
  for (const json& place : report.at("prompt_of_sample"))
    hashes.push_back(report.at("prompts").at(place.get<size_t>()).at("hash"));
  return hashes;
}

void check_comparable(const File& a, const File& b) {
  const auto require_same = [&](const char* key, const std::string& what, const std::string& hint) {
    const json &left = a.report.at(key), &right = b.report.at(key);
    check(left == right, ErrorKind::kData,
          fmt::format("{} and {} cannot be compared: {} {} and {}", a.path.string(), b.path.string(), what,
                      printable(left.dump()), printable(right.dump())),
          hint);
  };
  const std::string again = "evaluate both with the same --samples and --seed, on the same data";
  require_same("judge", "they come from different judges,", "evaluate runs on the same kind of data");
  require_same("samples", "they measured different numbers of samples,", again);
  require_same("seed", "their noise has different seeds,", again);
  check(prompts_of(a.report) == prompts_of(b.report), ErrorKind::kData,
        fmt::format("{} and {} cannot be compared: their samples have different prompts", a.path.string(),
                    b.path.string()),
        again);
  require_same("reference", "they were held against different real data,", again);
}

// Pairs in which both values are there.
struct Pairs {
  std::vector<double> a, b;
};

Pairs pairs_of(const json& row_a, const json& row_b, const std::string& key) {
  const std::vector<double> a = values_of(row_a, key), b = values_of(row_b, key);
  Pairs pairs;
  if (a.size() != b.size()) return pairs;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) continue;
    pairs.a.push_back(a[i]);
    pairs.b.push_back(b[i]);
  }
  return pairs;
}

std::string verdict_of(Better better, const Pairs& pairs, const evaluation::Interval& difference,
                       uint64_t seed) {
  int64_t different = 0;
  for (size_t i = 0; i < pairs.a.size(); ++i) different += pairs.a[i] != pairs.b[i];
  if (different < kLeastDifferent) return "no difference";
  if (better == Better::kNeither) return difference.excludes_zero() ? "differs" : "no difference";
  const evaluation::Interval worse = evaluation::bootstrap_paired_statistic(
      pairs.a, pairs.b,
      [&](double a, double b) { return evaluation::badness(better, b) - evaluation::badness(better, a); },
      {.seed = seed});
  if (!worse.excludes_zero()) return "no difference";
  return worse.low > 0 ? "worse" : "better";
}

const json* row_named(const json& report, const std::string& name) {
  for (const json& row : report.at("rows")) {
    if (row.at("name") == name) return &row;
  }
  return nullptr;
}

const json* student_of(const json& report) {
  for (const json& row : report.at("rows")) {
    if (row.at("method").at("network") == "student") return &row;
  }
  return nullptr;
}

std::string describe(const char* letter, const File& file) {
  const json& run = file.report.at("run");
  return fmt::format("{} = {} (step {}{})\n", letter, file.path.string(), run.at("step").get<int64_t>(),
                     run.at("average").get<bool>() ? ", averaged weights" : "");
}

bool has_number(const json& row, const std::string& key) {
  return row.at("metrics").value(key, json()).is_number();
}

// A row of `a` and the one of `b` that it is held against.
std::string compare_pair(const File& a, const File& b, const json& row_a, const json& row_b) {
  const json &method_a = row_a.at("method"), &method_b = row_b.at("method");
  const json &teacher_a = a.report.at("rows").at(0), &teacher_b = b.report.at("rows").at(0);
  const json to_a = row_a.at("metrics").value(kDiversityTo, json()),
             to_b = row_b.at("metrics").value(kDiversityTo, json());
  const bool same_teacher = teacher_a.at("method") == teacher_b.at("method");
  std::string text, ratios;
  if (row_a.at("name") == row_b.at("name") && method_a != method_b)
    text += fmt::format("sampled differently:\n  A {}\n  B {}\n", printable(method_a.dump()),
                        printable(method_b.dump()));
  json metrics = json::array();
  for (const json& metric : a.report.at("metrics")) {
    const auto key = metric.at("key").get<std::string>();
    const bool is_to_teacher = std::ranges::find(kToTeacher, key) != kToTeacher.end() ||
                               (key == kDiversity && to_a == "teacher" && to_b == "teacher");
    if (!has_number(row_a, key) || !has_number(row_b, key)) continue;
    if (is_to_teacher && !same_teacher) {
      ratios += (ratios.empty() ? "" : ", ") + printable(key);
    } else if (key == kDiversity && to_a != to_b) {
      text += fmt::format("left out: {}, which is to {} in A and to {} in B\n", key, printable(to_a.dump()),
                          printable(to_b.dump()));
    } else {
      metrics.push_back(metric);
    }
  }
  if (!ratios.empty())
    text +=
        fmt::format("left out: {}, since the first rows were sampled differently:\n  A {}\n  B {}\n", ratios,
                    printable(teacher_a.at("method").dump()), printable(teacher_b.at("method").dump()));
  return text +
         changes_table("A", "B", changes_json(compare_rows(metrics, row_a, row_b, a.report.at("seed"))));
}

std::string compare_reports(const File& a, const File& b) {
  check_comparable(a, b);
  std::string text = describe("A", a) + describe("B", b);
  text += fmt::format("{}, {} samples, seed {}; intervals hold 95 % of paired bootstrap differences\n",
                      printable(a.report.at("judge").get<std::string>()),
                      a.report.at("samples").get<int64_t>(), a.report.at("seed").get<uint64_t>());
  bool any = false;
  for (const json& row : a.report.at("rows")) {
    const json* other = row_named(b.report, row.at("name"));
    if (!other && &row == student_of(a.report)) other = student_of(b.report);
    if (!other) continue;
    any = true;
    const auto name = row.at("name").get<std::string>(), theirs = other->at("name").get<std::string>();
    text += "\n" + printable(name) + (name == theirs ? "" : " (A) and " + printable(theirs) + " (B)") + "\n";
    text += compare_pair(a, b, row, *other);
  }
  check(any, ErrorKind::kData,
        fmt::format("{} and {} have no row in common", a.path.string(), b.path.string()),
        "evaluate both with the same --sampler.steps");
  return text;
}

}  // namespace

std::vector<double> values_of(const json& row, const std::string& key) {
  const json& all = row.at("values");
  std::vector<double> values;
  if (!all.contains(key)) return values;
  for (const json& value : all.at(key)) values.push_back(number_of(value));
  return values;
}

std::optional<evaluation::Interval> interval_of(const std::vector<double>& values, uint64_t seed) {
  std::vector<double> present;
  std::ranges::copy_if(values, std::back_inserter(present), [](double value) { return !std::isnan(value); });
  if (static_cast<int64_t>(present.size()) < kLeastValues) return std::nullopt;
  return evaluation::bootstrap_mean(present, {.seed = seed});
}

std::vector<MetricChange> compare_rows(const json& metrics, const json& row_a, const json& row_b,
                                       uint64_t seed) {
  std::vector<MetricChange> changes;
  for (const json& metric : metrics) {
    MetricChange change{.key = metric.at("key"), .difference = {}, .verdict = "no interval"};
    const auto direction = metric.at("better").get<std::string>();
    const auto better = evaluation::better_named(direction);
    check(better.has_value(), ErrorKind::kData,
          fmt::format("metric {} is better when \"{}\", which nobody knows", printable(change.key),
                      printable(direction)));
    change.better = *better;
    const json a = row_a.at("metrics").value(change.key, json()),
               b = row_b.at("metrics").value(change.key, json());
    if (a.is_null() || b.is_null()) continue;
    change.a = a.get<double>();
    change.b = b.get<double>();
    const Pairs pairs = pairs_of(row_a, row_b, change.key);
    if (static_cast<int64_t>(pairs.a.size()) >= kLeastValues) {
      change.difference = evaluation::bootstrap_paired_difference(pairs.b, pairs.a, {.seed = seed});
      change.verdict = verdict_of(change.better, pairs, *change.difference, seed);
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

std::string compare_evaluations(const std::filesystem::path& a, const std::filesystem::path& b) {
  const File first = read_evaluation(a), second = read_evaluation(b);
  try {
    return compare_reports(first, second);
  } catch (const json::exception& e) {
    throw Error(ErrorKind::kData,
                fmt::format("{} or {} is garbled: {}", a.string(), b.string(), printable(e.what())),
                "evaluate again, or restore the file");
  }
}

}  // namespace tmd::orchestrator
