#pragma once

#include <string>

#include "comm/communicator.h"

namespace tmd::orchestrator {

/// Throws kConfig on all ranks, naming those that differ from rank 0, unless every rank runs `verb` with the
/// same bytes of the program's file; which path it has does not matter, and shared
/// libraries are not compared. kIo when a rank cannot read its own.
/// Collective over: `world`.
void check_same_program(comm::Communicator& world, const std::string& verb);

}  // namespace tmd::orchestrator
