#include "tests/support/nccl_stand_in/operations.h"

#include <algorithm>
#include <cstring>

#include <ATen/core/ScalarType.h>

#include "comm/reduction.h"

namespace tmd::test::stand_in {
namespace {

size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

at::ScalarType scalar_type_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt32:
      return at::kInt;
    case ncclInt64:
      return at::kLong;
    case ncclFloat32:
      return at::kFloat;
    case ncclFloat64:
      return at::kDouble;
    default:
      return at::kByte;
  }
}

tmd::comm::ReduceOp reduce_op_of(ncclRedOp_t op) {
  return op == ncclMin   ? tmd::comm::ReduceOp::kMin
         : op == ncclMax ? tmd::comm::ReduceOp::kMax
                         : tmd::comm::ReduceOp::kSum;
}

size_t bytes_of(const Call& call) { return call.count * bytes_of(call.type); }

// What the operations do, on the threads of the streams.

const std::byte* part(const void* data, int rank, size_t bytes) {
  return static_cast<const std::byte*>(data) + static_cast<size_t>(rank) * bytes;
}
std::byte* part(void* data, int rank, size_t bytes) {
  return static_cast<std::byte*>(data) + static_cast<size_t>(rank) * bytes;
}

void all_gather(Member& member, const Call& call, const Signature& signature) {
  const size_t bytes = bytes_of(call);
  std::memmove(part(call.output, member.rank, bytes), call.input, bytes);
  Transfers transfers(member, signature);
  for (int peer = 0; peer < member.size; ++peer) {
    if (peer == member.rank) continue;
    transfers.send(peer, part(call.output, member.rank, bytes), bytes);
    transfers.receive(peer, part(call.output, peer, bytes), bytes);
  }
  transfers.run();
}

void broadcast(Member& member, const Call& call, const Signature& signature) {
  const size_t bytes = bytes_of(call);
  Transfers transfers(member, signature);
  if (member.rank == call.peer) {
    if (call.output != call.input) std::memmove(call.output, call.input, bytes);
    for (int peer = 0; peer < member.size; ++peer) {
      if (peer != member.rank) transfers.send(peer, call.input, bytes);
    }
  } else {
    transfers.receive(call.peer, call.output, bytes);
  }
  transfers.run();
}

// Of one part of every rank's input, in rank order: [peer] of what this rank gets, or all of it.
void reduce(Member& member, const Call& call, const Signature& signature, bool scatters) {
  const size_t bytes = bytes_of(call);
  const auto own_part = [&](int peer) {
    return scatters ? part(call.input, peer, bytes) : part(call.input, 0, 0);
  };
  std::vector<std::vector<std::byte>> received(static_cast<size_t>(member.size));
  Transfers transfers(member, signature);
  for (int peer = 0; peer < member.size; ++peer) {
    std::vector<std::byte>& from = received[static_cast<size_t>(peer)];
    from.resize(bytes);
    if (peer == member.rank) {
      std::memcpy(from.data(), own_part(peer), bytes);
    } else {
      transfers.send(peer, own_part(peer), bytes);
      transfers.receive(peer, from.data(), bytes);
    }
  }
  if (!transfers.run()) return;
  std::vector<const std::byte*> inputs;
  for (const auto& from : received) inputs.push_back(from.data());
  const tmd::comm::Reduction reduction(scalar_type_of(call.type), reduce_op_of(call.op));
  reduction.apply(inputs, static_cast<std::byte*>(call.output), static_cast<int64_t>(call.count));
}

void exchange(Member& member, const std::vector<Call>& calls, const Signature& signature) {
  Transfers transfers(member, signature);
  std::vector<const Call*> to_self, from_self;
  for (const Call& call : calls) {
    if (call.peer == member.rank) {
      (call.is_send ? to_self : from_self).push_back(&call);
    } else if (call.is_send) {
      transfers.send(call.peer, call.input, bytes_of(call));
    } else {
      transfers.receive(call.peer, call.output, bytes_of(call));
    }
  }
  for (size_t i = 0; i < std::min(to_self.size(), from_self.size()); ++i)
    std::memmove(from_self[i]->output, to_self[i]->input, bytes_of(*to_self[i]));
  transfers.run();
}

}  // namespace

std::string name_of(const Call& call) {
  switch (call.kind) {
    case Kind::kAllGather:
      return "ncclAllGather";
    case Kind::kReduceScatter:
      return "ncclReduceScatter";
    case Kind::kAllReduce:
      return "ncclAllReduce";
    case Kind::kBroadcast:
      return "ncclBroadcast";
    default:
      return call.is_send ? "ncclSend" : "ncclRecv";
  }
}

std::vector<Range> ranges_of(const Call& call, int ranks) {
  const size_t bytes = bytes_of(call), all = bytes * static_cast<size_t>(ranks);
  switch (call.kind) {
    case Kind::kAllGather:
      return {{call.input, bytes, false}, {call.output, all, true}};
    case Kind::kReduceScatter:
      return {{call.input, all, false}, {call.output, bytes, true}};
    case Kind::kAllReduce:
      return {{call.input, bytes, false}, {call.output, bytes, true}};
    case Kind::kBroadcast:
      return {{call.input, bytes, false}, {call.output, bytes, true}};
    default:
      return {call.is_send ? Range{call.input, bytes, false} : Range{call.output, bytes, true}};
  }
}

Signature signature_of(const Call& first, uint64_t sequence) {
  Signature signature{.sequence = sequence, .kind = static_cast<int32_t>(first.kind)};
  if (first.kind == Kind::kMessages) return signature;
  signature.count = first.count;
  signature.type = first.type;
  if (first.kind == Kind::kBroadcast) signature.root = first.peer;
  if (first.kind == Kind::kAllReduce || first.kind == Kind::kReduceScatter) signature.op = first.op;
  return signature;
}

void run(Member& member, const std::vector<Call>& calls, const Signature& signature) {
  const Call& first = calls.front();
  switch (first.kind) {
    case Kind::kAllGather:
      return all_gather(member, first, signature);
    case Kind::kBroadcast:
      return broadcast(member, first, signature);
    case Kind::kReduceScatter:
      return reduce(member, first, signature, true);
    case Kind::kAllReduce:
      return reduce(member, first, signature, false);
    default:
      return exchange(member, calls, signature);
  }
}

}  // namespace tmd::test::stand_in
