#include "base/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace tmd {
namespace {

namespace fs = std::filesystem;

// The number behind `key` ("VmRSS:") of a file of lines "key number [unit]".
std::optional<uint64_t> number_of(const fs::path& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string word; lines >> word;) {
    uint64_t value = 0;
    if (word == key && lines >> value) return value;
  }
  return {};
}

std::optional<uint64_t> first_number(const fs::path& file) {
  std::ifstream stream(file);
  uint64_t value = 0;
  if (stream >> value) return value;  // "max" is no number
  return {};
}

// How a version of control groups calls things. Sums over the groups below are wanted: in version 1 they have
// names of their own.
struct Names {
  const char *limit, *used, *inactive_cache, *active_cache;
};
constexpr Names kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                             "total_active_file"};
constexpr Names kVersion2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

std::optional<uint64_t> left_in(const fs::path& group, const Names& names) {
  const auto limit = first_number(group / names.limit), used = first_number(group / names.used);
  if (!limit || !used) return {};
  const fs::path statistics = group / "memory.stat";
  const uint64_t cache = number_of(statistics, names.inactive_cache).value_or(0) +
                         number_of(statistics, names.active_cache).value_or(0);
  const uint64_t bound = *used - std::min(*used, cache);
  return *limit - std::min(*limit, bound);
}

bool is_memory_controller(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == "memory") return true;
  }
  return false;
}

}  // namespace

std::optional<uint64_t> left_in_control_groups(const fs::path& groups, const fs::path& mount) {
  std::ifstream lines(groups);
  std::optional<uint64_t> least;
  for (std::string line; std::getline(lines, line);) {  // number:controllers:/path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_version_2 = controllers.empty();
    if (!is_version_2 && !is_memory_controller(controllers)) continue;
    const fs::path root = is_version_2 ? mount : mount / "memory";
    // Inside a container the path may be the host's, which is not there, while the root is the container's.
    fs::path at = fs::path("/" + line.substr(second + 1)).lexically_normal().relative_path();
    for (;; at = at.parent_path()) {
      if (const auto left = left_in(root / at, is_version_2 ? kVersion2 : kVersion1))
        least = std::min(least.value_or(std::numeric_limits<uint64_t>::max()), *left);
      if (at.empty()) break;
    }
  }
  return least;
}

std::optional<uint64_t> available_memory() {
  std::optional<uint64_t> least = left_in_control_groups("/proc/self/cgroup", "/sys/fs/cgroup");
  if (const auto kibibytes = number_of("/proc/meminfo", "MemAvailable:"))
    least = std::min(least.value_or(std::numeric_limits<uint64_t>::max()), 1024 * *kibibytes);
  return least;
}

uint64_t resident_memory() { return 1024 * number_of("/proc/self/status", "VmRSS:").value_or(0); }

uint64_t peak_resident_memory() { return 1024 * number_of("/proc/self/status", "VmHWM:").value_or(0); }

uint64_t bytes_read_by_process() { return number_of("/proc/self/io", "rchar:").value_or(0); }

}  // namespace tmd
