#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::comm {

/// The contract of Communicator as checks that any backend must pass: every operation with every element
/// type, odd sizes, in place and not, many operations under way at once, groups, messages. Returns what
/// failed on this rank, empty when all holds. Collective over: `comm`. Takes well under a second.
std::vector<std::string> self_check(Communicator& comm);

}  // namespace tmd::comm
