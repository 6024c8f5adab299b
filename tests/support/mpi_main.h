#pragma once

#include "comm/communicator.h"

namespace tmd::test {

/// All ranks of the test program.
comm::Communicator& world();

}  // namespace tmd::test
