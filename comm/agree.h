#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"

// Small blocking collectives that make all ranks decide alike. Whatever changes control flow goes through one
// of them first. Collective over: the communicator given.
namespace tmd::comm {

int64_t agree_max(Communicator& comm, int64_t value);
int64_t agree_min(Communicator& comm, int64_t value);
bool agree_any(Communicator& comm, bool flag);
bool agree_all(Communicator& comm, bool flag);

/// values <- sum over ranks, in rank order, the same bits on all ranks.
void sum(Communicator& comm, std::span<double> values);

/// The text of every rank, on all ranks.
std::vector<std::string> gather_strings(Communicator& comm, const std::string& text);
/// The text of `root`, on all ranks.
std::string broadcast_string(Communicator& comm, const std::string& text, int root);

/// Throws kConfig on all ranks, naming those that differ from rank 0, unless `value` is the same everywhere.
void agree_equal(Communicator& comm, const std::string& value, const std::string& what);

/// Runs `action`, which may throw on some ranks only. When it did, all ranks throw the error of the lowest
/// rank that failed, with "rank N: " in front (in groups of more than one) and kind and hint kept. `action`
/// must not communicate in a way that a failing rank would leave the others waiting.
void run_agreed(Communicator& comm, const std::function<void()>& action);

}  // namespace tmd::comm
