#pragma once

#include <cstddef>
#include <nccl.h>
#include <string>
#include <vector>

#include "tests/support/nccl_stand_in/device.h"
#include "tests/support/nccl_stand_in/family.h"

namespace tmd::test::stand_in {

/// One call of an operation.
struct Call {
  Kind kind = Kind::kNone;
  bool is_send = false;
  const void* input = nullptr;
  void* output = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  // or root
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};

/// "ncclAllGather" and so on.
std::string name_of(const Call& call);

/// What it reads and writes among `ranks` ranks.
std::vector<Range> ranges_of(const Call& call, int ranks);

/// Of one collective, or of the messages of a group.
Signature signature_of(const Call& first, uint64_t sequence);

/// Does it, on the thread of a stream: one collective, or messages.
void run(Member& member, const std::vector<Call>& calls, const Signature& signature);

}  // namespace tmd::test::stand_in
