#pragma once

#include <cstddef>

namespace tmd::comm {

/// Results from this size on do not fit into the caches of the ranks that share a processor: they are written
/// past them, which saves reading what is overwritten. (`memcpy` decides by the size of one chunk.)
inline constexpr size_t kBulkBytes = 16 << 20;

/// memcpy of a chunk of a result of `whole_bytes` bytes. Thread: any.
void bulk_copy(std::byte* to, const std::byte* from, size_t bytes, size_t whole_bytes);

}  // namespace tmd::comm
