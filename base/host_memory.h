#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace tmd {

// What the operating system says about memory and reading. Counters of 0 mean that it does not tell.

/// Bytes that this host can still give without swapping, or what the control groups of this process have left
/// if that is less: 0 when they are full. Nothing when the system does not tell.
std::optional<uint64_t> available_memory();

/// The least that the control groups of a process have left, from its own one out to the root folder of the
/// hierarchy as it is mounted: the limit less what is used and cannot be reclaimed (the page cache can).
/// `groups`: the process's /proc/PID/cgroup, of version 1 (the line of the memory controller) or 2; `mount`:
/// where the hierarchies are mounted. Nothing when there is no limit.
std::optional<uint64_t> left_in_control_groups(const std::filesystem::path& groups,
                                               const std::filesystem::path& mount);

/// Bytes of this process in memory now, and the most since its start.
uint64_t resident_memory();
uint64_t peak_resident_memory();
/// Bytes that this process has read by system calls, from caches too.
uint64_t bytes_read_by_process();

}  // namespace tmd
