#pragma once

#include <cstdint>

// The order of samples as pure functions: no list is ever stored or shuffled, so a restart needs one integer,
// and any rank can tell what any other rank reads. "Global position" counts samples since the start of the
// run; an epoch is n positions in which every sample appears once. All throw kInternal for arguments out of
// range.
namespace tmd::data {

/// A permutation of [0, n) keyed by (seed, epoch): positions 0 to n - 1 give distinct indices. n >= 1.
/// Constant time: a Feistel network over the next even number of bits, walked until it lands below n.
int64_t permuted(uint64_t seed, int64_t epoch, int64_t n, int64_t position);

/// Sample at a global position >= 0 of an endless run over n >= 1 samples: permuted() of position % n in
/// epoch position / n.
int64_t sample_at(uint64_t seed, int64_t n, int64_t global_position);

/// What stands in for the sample at `global_position` when it is bad (attempt 1), when that one is bad too
/// (attempt 2), and so on: uniform in [0, n), so that the bad sample itself may come up again. Depends on
/// nothing else, so a quarantined sample never moves another position.
int64_t replacement_at(uint64_t seed, int64_t n, int64_t global_position, int64_t attempt);

}  // namespace tmd::data
