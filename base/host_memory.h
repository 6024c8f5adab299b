#pragma once

#include <cstdint>

namespace tmd {

// What the operating system says about memory and reading. Values of 0 mean that it does not tell.

/// Bytes that this host can still give without swapping, or what the control group of this process has left
/// if that is less.
uint64_t available_memory();
/// Bytes of this process in memory now, and the most since its start.
uint64_t resident_memory();
uint64_t peak_resident_memory();
/// Bytes that this process has read by system calls, from caches too.
uint64_t bytes_read_by_process();

}  // namespace tmd
