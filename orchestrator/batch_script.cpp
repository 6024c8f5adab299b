#include "orchestrator/batch_script.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <regex>
#include <string_view>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

constexpr int64_t kMebibyte = 1 << 20;
// Beside its tensors a rank has the program and its libraries (0.3 GB), buffers of MPI and of the reader.
constexpr int64_t kRankBytes = 500 * kMebibyte;
constexpr int64_t kReaderBytes = 1024 * kMebibyte;
// Where two stages meet, networks of both are there for a moment; the plan does not see that.
constexpr double kMargin = 1.25;

// A shared file system gives a node this much when many write at once, and an iteration ends before a save.
constexpr double kSaveBytesPerSecond = 200e6;
constexpr int64_t kIterationSeconds = 120;
constexpr int64_t kShortestLead = 180;

std::string directive(const std::string& option, const std::string& value) {
  return value.empty() ? "" : fmt::format("#SBATCH --{}={}\n", option, value);
}

}  // namespace

std::string quoted(const std::string& word) {
  const auto is_plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("-_./=,:+@%").find(c) != std::string_view::npos;
  };
  if (!word.empty() && std::ranges::all_of(word, is_plain)) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string batch_script(const BatchJob& job) {
  std::string text = "#!/bin/bash\n";
  for (const std::string& remark : job.remarks) text += "# " + remark + "\n";
  text += directive("job-name", quoted(job.name));
  text += directive("nodes", std::to_string(job.nodes));
  text += directive("ntasks", std::to_string(job.ranks));
  text += directive("ntasks-per-node", std::to_string(job.ranks_per_node));
  if (job.cores_per_rank > 0) text += directive("cpus-per-task", std::to_string(job.cores_per_rank));
  text += directive("mem", fmt::format("{}M", (job.node_bytes + kMebibyte - 1) / kMebibyte));
  text += directive("time", job.time);
  text += directive("signal", fmt::format("USR1@{}", job.signal_lead_s));
  text += directive("partition", job.partition) + directive("account", job.account);
  text += directive("chdir", quoted(job.folder.string()));
  text += directive("output", quoted(job.name + "-%j.txt"));
  text += "#SBATCH --open-mode=append\n#SBATCH --requeue\n";
  text += "export TMD=" + quoted(job.program.string()) + "\n";
  text += "exec bash " + quoted(job.starter.string());
  for (const std::string& word : job.words) text += " " + quoted(word);
  return text + "\n";
}

int64_t time_limit_seconds(const std::string& text) {
  static const std::regex clock("(?:(\\d{1,5})-)?(\\d{1,5}):([0-5]?\\d):([0-5]?\\d)"), minutes("\\d{1,7}");
  std::smatch parts;
  int64_t seconds = 0;
  if (std::regex_match(text, minutes)) {
    seconds = 60 * std::stoll(text);
  } else if (std::regex_match(text, parts, clock)) {
    const int64_t days = parts[1].matched ? std::stoll(parts[1]) : 0;
    seconds = ((days * 24 + std::stoll(parts[2])) * 60 + std::stoll(parts[3])) * 60 + std::stoll(parts[4]);
  }
  check(seconds > 0, ErrorKind::kUsage, fmt::format("--time {}: no time", text),
        "HH:MM:SS, D-HH:MM:SS or minutes");
  return seconds;
}

int64_t signal_lead_seconds(int64_t node_bytes, int64_t time_limit_s) {
  const double save = static_cast<double>(node_bytes) / kSaveBytesPerSecond;
  const int64_t lead = kIterationSeconds + static_cast<int64_t>(save);
  return std::min(std::max(kShortestLead, (lead + 59) / 60 * 60), std::max<int64_t>(time_limit_s / 2, 1));
}

int64_t node_memory(int64_t tensor_bytes, int trainers, int others) {
  const double tensors = kMargin * static_cast<double>(tensor_bytes);
  return trainers * (static_cast<int64_t>(tensors) + kRankBytes) + others * kReaderBytes;
}

}  // namespace tmd::orchestrator
