#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"

namespace tmd::comm {

// Small blocking collectives that make all ranks decide alike. Whatever changes control flow (stop, skip,
// save, fail) goes through one of them first. Collective over: the communicator. Errors: those of the
// communicator, besides those named. Thread: as the communicator.

/// The largest or smallest value of the ranks, on all ranks.
int64_t agree_max(Communicator& comm, int64_t value);
/// The largest of each of equally many values.
void agree_max(Communicator& comm, std::span<int64_t> values);
/// The largest of the ranks' times in seconds, to a nanosecond.
double agree_slowest(Communicator& comm, double seconds);
int64_t agree_min(Communicator& comm, int64_t value);
/// Whether the value is true on any rank, or on all of them.
bool agree_any(Communicator& comm, bool value);
bool agree_all(Communicator& comm, bool value);

/// Each value becomes its sum over the ranks (float64, in rank order), with the same bits on all of them and
/// in every run. Equally many values on every rank.
void sum(Communicator& comm, std::span<double> values);

/// Throws kConfig on all ranks, naming those that differ from rank 0 and both values (shortened), unless
/// `value` is the same everywhere. `what` begins the message: "the configuration".
void agree_equal(Communicator& comm, const std::string& value, const std::string& what);

/// When some ranks bring a failure, all ranks throw that of the lowest one, with "rank N: " in front (in
/// groups of more than one rank) and its kind and hint.
void agree_ok(Communicator& comm, const std::optional<Error>& failure);

/// Runs `action`, which may throw on some ranks only, and agrees on the outcome as `agree_ok` does; what is
/// no Error becomes kInternal. Nothing that throws on one rank only inside `action` may come before a
/// collective inside `action`, of this communicator or of another: the others would wait there. kPeerLost is
/// thrown on at once: there may be nobody left to agree with.
void run_agreed(Communicator& comm, const std::function<void()>& action);

/// The text of `root`, on all ranks; `text` of the others is not used.
std::string broadcast_string(Communicator& comm, const std::string& text, int root);

/// The text of each rank, by rank, on all ranks. Every text travels as long as the longest one.
std::vector<std::string> gather_strings(Communicator& comm, const std::string& text);

/// The same on `root` only; empty on the others. For long texts: each travels once. Uses message tag 32767.
std::vector<std::string> gather_strings_to(Communicator& comm, int root, const std::string& text);

}  // namespace tmd::comm
