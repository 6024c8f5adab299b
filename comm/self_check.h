#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::comm {

/// Holds a communicator against the contract of comm/communicator.h: every operation, element type and
/// reduction, in and out of place, odd and large sizes, many operations under way, order, groups, messages
/// with tags, equal bits. Returns one line for each thing that this rank found wrong; they begin with the
/// operation. Takes about a second on a few ranks of one machine. Uses tags 0, 9 and 32767. Collective over:
/// the communicator. Throws what operations throw.
std::vector<std::string> self_check(Communicator& comm);

}  // namespace tmd::comm
