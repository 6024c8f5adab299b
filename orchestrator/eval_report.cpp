#include "orchestrator/eval_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>

namespace tmd::orchestrator {
namespace {

using nlohmann::json;

std::string number(double value) { return fmt::format("{:.4g}", value); }
// `ends`: [low, high].
std::string bounds(const json& ends) {
  return fmt::format("[{:.3g}, {:.3g}]", ends.at(0).get<double>(), ends.at(1).get<double>());
}

json metric_list(const Evaluator& evaluator) {
  json list = json::array();
  for (const evaluation::Metric& metric : evaluator.metrics())
    list.push_back({{"key", metric.key}, {"better", evaluation::name(metric.better)}});
  return list;
}

json prompt_list(const Evaluator& evaluator) {
  json list = json::array();
  for (const EvaluatedPrompt& prompt : evaluator.prompts()) {
    list.push_back({{"first", prompt.first}, {"hash", prompt.hash}});
    if (!prompt.text.empty()) list.back()["text"] = prompt.text;
  }
  return list;
}

json row_json(const EvaluationRow& row, json method, uint64_t seed) {
  json intervals = json::object();
  for (const auto& [key, values] : row.score.values) {
    if (const auto interval = interval_of(values, seed)) intervals[key] = {interval->low, interval->high};
  }
  return {{"name", row.name},
          {"method", std::move(method)},
          {"effective_nfe", row.effective_nfe},
          {"seconds_per_sample", row.seconds_per_sample},
          {"metrics", row.score.json},
          {"intervals", std::move(intervals)},
          {"values", row.score.values}};
}

// Students against the teacher of as many steps.
json differences(const json& report, const std::vector<Contender>& contenders, uint64_t seed) {
  json list = json::array();
  for (size_t student = 0; student < contenders.size(); ++student) {
    if (contenders[student].is_teacher) continue;
    const auto teacher = std::ranges::find_if(contenders, [&](const Contender& other) {
      return other.is_teacher && other.steps == contenders[student].steps;
    });
    if (teacher == contenders.end()) continue;
    const json& row_a = report.at("rows").at(static_cast<size_t>(teacher - contenders.begin()));
    list.push_back({{"a", teacher->name},
                    {"b", contenders[student].name},
                    {"changes", changes_json(compare_rows(report.at("metrics"), row_a,
                                                          report.at("rows").at(student), seed))}});
  }
  return list;
}

void write(const json& value, const std::string& indent, std::string& out) {
  const bool is_nested = std::ranges::any_of(value, [](const json& part) { return part.is_structured(); });
  if (!(value.is_object() || (value.is_array() && is_nested)) || value.empty()) {
    out += value.dump(-1, ' ', false, json::error_handler_t::replace);
    return;
  }
  const std::string inner = indent + "  ";
  out += value.is_object() ? "{" : "[";
  const char* separator = "\n";
  for (const auto& [key, part] : value.items()) {
    out += separator + inner;
    if (value.is_object()) out += json(key).dump(-1, ' ', false, json::error_handler_t::replace) + ": ";
    write(part, inner, out);
    separator = ",\n";
  }
  out += "\n" + indent + (value.is_object() ? "}" : "]");
}

std::string cell(const json& metrics, const json& intervals, const std::string& key) {
  const json value = metrics.value(key, json());
  if (value.is_null()) return "-";
  std::string text = number(value.get<double>());
  if (intervals.contains(key)) text += " " + bounds(intervals.at(key));
  return text;
}

}  // namespace

json contender_json(const configs::Config& config, const Contender& contender) {
  configs::Config copy = config;
  const auto table = configs::declare_options(copy);
  if (contender.is_teacher) {
    return {{"network", "teacher"},
            {"solver", table->value("sampler.solver")},
            {"steps", contender.steps},
            {"shift", config.sampler.shift},
            {"grid", table->value("sampler.grid")},
            {"cfg", config.sampler.cfg},
            {"model_time", table->value("sampler.model_time")},
            {"skip_block", config.sampler.skip_block}};
  }
  const workers::MethodOptions& method = config.stages.method;
  json out = {
      {"network", "student"}, {"name", table->value("method.name")}, {"outer_steps", contender.steps}};
  if (!workers::is_decoupled(method.name)) return out;
  out["inner_steps"] = contender.inner_steps > 0 ? contender.inner_steps : method.inner_steps;
  out["head_blocks"] = configs::network_plan(config).head_blocks();
  return out;
}

double number_of(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

json evaluation_report(const Evaluator& evaluator, const ReportOrigin& origin,
                       const std::vector<Contender>& contenders, const std::vector<EvaluationRow>& rows) {
  configs::Config config = origin.config;
  json report = {
      {"format", kEvaluationFormat},
      {"version", kEvaluationVersion},
      {"run",
       {{"step", origin.step},
        {"average", origin.average},
        {"experiment_hash", fmt::format("{:016x}", configs::declare_options(config)->experiment_hash())},
        {"data_hash", fmt::format("{:016x}", origin.data_hash)}}},
      {"judge", evaluator.judge()},
      {"samples", evaluator.count()},
      {"seed", origin.seed},
      {"reference", evaluator.reference()},
      {"prompts", prompt_list(evaluator)},
      {"prompt_of_sample", evaluator.prompt_of_row()},
      {"metrics", metric_list(evaluator)},
      {"real", evaluator.floor().json},
      {"rows", json::array()}};
  for (size_t i = 0; i < rows.size(); ++i)
    report["rows"].push_back(row_json(rows[i], contender_json(origin.config, contenders[i]), origin.seed));
  report["differences"] = differences(report, contenders, origin.seed);
  return report;
}

std::string report_text(const json& report) {
  std::string text;
  write(report, "", text);
  return text + "\n";
}

std::string vector_table(const json& report) {
  std::vector<std::string> headings = {"metric", "better", "real data"};
  for (const json& row : report.at("rows")) headings.push_back(row.at("name"));
  std::vector<std::vector<std::string>> lines;
  for (const json& metric : report.at("metrics")) {
    const std::string key = metric.at("key");
    std::vector<std::string> line = {key, metric.at("better"), cell(report.at("real"), json::object(), key)};
    for (const json& row : report.at("rows"))
      line.push_back(cell(row.at("metrics"), row.at("intervals"), key));
    lines.push_back(std::move(line));
  }
  return aligned_table(headings, lines);
}

json changes_json(const std::vector<MetricChange>& changes) {
  json list = json::array();
  for (const MetricChange& change : changes) {
    list.push_back({{"key", change.key}, {"a", change.a}, {"b", change.b}, {"verdict", change.verdict}});
    if (change.difference) list.back()["interval"] = {change.difference->low, change.difference->high};
  }
  return list;
}

std::string changes_table(const std::string& a, const std::string& b, const json& changes) {
  std::vector<std::vector<std::string>> lines;
  for (const json& change : changes) {
    const double from = change.at("a"), to = change.at("b");
    lines.push_back({change.at("key"), number(from), number(to), fmt::format("{:+.4g}", to - from),
                     change.contains("interval") ? bounds(change.at("interval")) : "", change.at("verdict")});
  }
  return aligned_table({"metric", a, b, b + " - " + a, "95 % interval", ""}, lines);
}

}  // namespace tmd::orchestrator
