#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tmd::orchestrator {

/// A job of Slurm that runs `tmd train` through slurm/train.sbatch.
struct BatchJob {
  std::string name;  ///< of the job and of its log
  int nodes = 1;
  int ranks = 1;  ///< data workers included; the same number on every node
  int ranks_per_node = 1;
  int64_t cores_per_rank = 0;  ///< 0 = not asked for
  int64_t node_bytes = 0;
  std::string time;  ///< as time_limit_seconds
  int64_t signal_lead_s = 0;
  std::string partition, account;          ///< empty = not asked for
  std::filesystem::path folder;            ///< where the job runs, absolute
  std::filesystem::path program, starter;  ///< tmd and train.sbatch, absolute
  std::vector<std::string> words;          ///< behind `tmd train`
  std::vector<std::string> remarks;        ///< lines of comment
};

/// The script, ready for sbatch.
std::string batch_script(const BatchJob& job);

/// A word as a shell takes it for one word.
std::string quoted(const std::string& word);

/// Seconds of MM, HH:MM:SS or D-HH:MM:SS. Throws kUsage for any other text and for no time at all.
int64_t time_limit_seconds(const std::string& text);

/// Seconds before the end of a job at which its ranks are told to save, when a node then writes `node_bytes`.
int64_t signal_lead_seconds(int64_t node_bytes, int64_t time_limit_s);

/// Bytes of the fullest node, on which `trainers` ranks need `tensor_bytes` each by their plan, and `others`
/// read data.
int64_t node_memory(int64_t tensor_bytes, int trainers, int others);

}  // namespace tmd::orchestrator
