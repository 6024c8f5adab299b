#include "orchestrator/finding.h"

#include <algorithm>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tmd::orchestrator {
namespace {

// Longer texts go on below, so that the columns stay readable on a terminal.
constexpr size_t kTextWidth = 92;

std::string wrapped(const std::string& text, size_t indent) {
  std::string result, line;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!line.empty() && line.size() + 1 + word.size() > kTextWidth) {
      result += line + "\n" + std::string(indent, ' ');
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  return result + line;
}

}  // namespace

std::string_view name(Severity severity) {
  if (severity == Severity::kOk) return "ok";
  return severity == Severity::kWarning ? "warning" : "error";
}

Finding fine(std::string heading, std::string name, std::string text) {
  return {.heading = std::move(heading), .name = std::move(name), .text = std::move(text), .hint = {}};
}

Finding warning(std::string heading, std::string name, std::string text, std::string hint) {
  return {.heading = std::move(heading),
          .name = std::move(name),
          .severity = Severity::kWarning,
          .text = std::move(text),
          .hint = std::move(hint)};
}

Finding error(std::string heading, std::string name, ErrorKind kind, std::string text, std::string hint) {
  return {.heading = std::move(heading),
          .name = std::move(name),
          .severity = Severity::kError,
          .text = std::move(text),
          .hint = std::move(hint),
          .kind = kind};
}

Finding error(std::string heading, std::string name, const Error& failure) {
  const std::string hint = failure.hint().empty() ? "the message says what was tried" : failure.hint();
  return error(std::move(heading), std::move(name), failure.kind(), failure.what(), hint);
}

int count(const std::vector<Finding>& findings, Severity severity) {
  return static_cast<int>(
      std::ranges::count_if(findings, [&](const Finding& f) { return f.severity == severity; }));
}

int exit_code(const std::vector<Finding>& findings) {
  const auto first = std::ranges::find(findings, Severity::kError, &Finding::severity);
  return first == findings.end() ? 0 : static_cast<int>(first->kind);
}

std::string counted(int64_t count, std::string_view what) {
  return fmt::format("{} {}{}", count == 0 ? "no" : std::to_string(count), what, count == 1 ? "" : "s");
}

std::string findings_text(const std::vector<Finding>& findings) {
  std::string text, heading;
  for (const Finding& finding : findings) {
    if (finding.heading != heading) text += "\n" + finding.heading + "\n";
    heading = finding.heading;
    const std::string start = fmt::format("  {:<8} {:<16} ", name(finding.severity), finding.name);
    text += start + wrapped(finding.text, start.size()) + "\n";
    if (finding.hint.empty()) continue;
    const std::string hint = std::string(start.size(), ' ') + "hint: ";
    text += hint + wrapped(finding.hint, hint.size()) + "\n";
  }
  const int errors = count(findings, Severity::kError), code = exit_code(findings);
  text += fmt::format("\n{}, {}", counted(errors, "error"),
                      counted(count(findings, Severity::kWarning), "warning"));
  return text + (errors > 0 ? fmt::format("; exit code {}\n", code) : "\n");
}

nlohmann::json findings_json(const std::vector<Finding>& findings) {
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& finding : findings) {
    nlohmann::json& entry = list.emplace_back();
    entry = {{"heading", finding.heading},
             {"name", finding.name},
             {"severity", name(finding.severity)},
             {"text", finding.text},
             {"hint", finding.hint}};
    if (finding.severity == Severity::kError) entry["exit_code"] = static_cast<int>(finding.kind);
  }
  return list;
}

}  // namespace tmd::orchestrator
