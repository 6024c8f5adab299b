#include "base/host_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace tmd {
namespace {

// The number behind `key` ("VmRSS:") of a file of lines "key number [unit]".
std::optional<uint64_t> number_of(const char* file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string word; lines >> word;) {
    uint64_t value = 0;
    if (word == key && lines >> value) return value;
  }
  return {};
}

std::optional<uint64_t> first_number(const std::filesystem::path& file) {
  std::ifstream stream(file);
  uint64_t value = 0;
  if (stream >> value) return value;  // "max" is no number
  return {};
}

// Limit and use of the control groups of this process (version 2), from the innermost outwards.
std::optional<uint64_t> left_in_control_group() {
  std::ifstream groups("/proc/self/cgroup");
  std::optional<uint64_t> least;
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    const std::filesystem::path root = "/sys/fs/cgroup";
    for (std::filesystem::path at = line.substr(3); at != "/" && !at.empty(); at = at.parent_path()) {
      const std::filesystem::path folder = root / at.relative_path();
      const auto limit = first_number(folder / "memory.max"), used = first_number(folder / "memory.current");
      if (!limit || !used) continue;
      const uint64_t left = *limit > *used ? *limit - *used : 0;
      least = std::min(least.value_or(std::numeric_limits<uint64_t>::max()), left);
    }
  }
  return least;
}

}  // namespace

uint64_t available_memory() {
  const uint64_t host = 1024 * number_of("/proc/meminfo", "MemAvailable:").value_or(0);
  return std::min(host, left_in_control_group().value_or(host));
}

uint64_t resident_memory() { return 1024 * number_of("/proc/self/status", "VmRSS:").value_or(0); }

uint64_t peak_resident_memory() { return 1024 * number_of("/proc/self/status", "VmHWM:").value_or(0); }

uint64_t bytes_read_by_process() { return number_of("/proc/self/io", "rchar:").value_or(0); }

}  // namespace tmd
