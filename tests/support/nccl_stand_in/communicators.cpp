#include <algorithm>
#include <cstring>
#include <map>
#include <nccl.h>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "tests/support/nccl_stand_in/device.h"
#include "tests/support/nccl_stand_in/family.h"
#include "tests/support/nccl_stand_in/operations.h"

/// Everything but `member` is guarded by the mutex of the library.
struct ncclComm {
  std::shared_ptr<tmd::test::stand_in::Member> member;
  std::string description;
  bool is_finalized = false;
  uint64_t operations = 0;
  uint64_t splits = 0;
  std::set<cudaStream_t> streams;
  std::function<bool()> in_progress;                 // asked until it says that it is over
  std::vector<tmd::test::stand_in::Call> launching;  // not on their streams yet
  ncclComm* splitting_off = nullptr;                 // the caller does not have it yet
};

namespace tmd::test::stand_in {
namespace {

struct Library {
  std::mutex mutex;
  std::set<ncclComm_t> live;
  std::string last_error;
  int version = NCCL_VERSION_CODE;
  bool hangs_in_abort = false;
};

// Never destroyed, as the device.
Library& library() {
  static Library* const the_library = new Library;
  return *the_library;
}

thread_local int group_depth = 0;
thread_local std::vector<Call> group_calls;

// How often a call that does not block has to be asked for.
constexpr int kPolls = 3;

// With the mutex of the library: puts the calls of one group on their streams.
void put_on_streams(ncclComm_t comm, const std::vector<Call>& calls) {
  std::vector<Call> messages;
  std::vector<std::vector<Call>> pieces;
  for (const Call& call : calls) {
    if (call.kind == Kind::kMessages) {
      messages.push_back(call);
    } else {
      pieces.push_back({call});
    }
  }
  if (!messages.empty()) pieces.push_back(std::move(messages));
  for (const std::vector<Call>& piece : pieces) {
    const Call& first = piece.front();
    std::vector<Range> ranges;
    for (const Call& call : piece) {
      for (const Range& range : ranges_of(call, comm->member->size)) ranges.push_back(range);
    }
    const Signature signature = signature_of(first, ++comm->operations);
    comm->member->unfinished.fetch_add(1);
    const uint64_t ticket = comm->member->turns->take_ticket();
    const auto do_it = [member = comm->member, ticket, signature, piece] {
      run_in_turn(*member, ticket, signature, [&] { run(*member, piece, signature); });
    };
    const auto pass = [member = comm->member, ticket, signature] {
      run_in_turn(*member, ticket, signature, [] {});
    };
    Device::get().enqueue(first.stream, fmt::format("{} of '{}'", name_of(first), comm->member->name), ranges,
                          do_it, pass);
  }
}

void count_launches_in_progress(const std::vector<Call>& calls, int change) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  for (const Call& call : calls) {
    if (device.is_live(call.stream)) call.stream->launches_in_progress += change;
  }
}

// With the mutex of the library.
void report(const std::string& what) {
  library().last_error = what;
  Device::get().report(what);
}

// With the mutex of the library: whether `call` can use the communicator.
bool check_usable(ncclComm_t comm, const std::string& call) {
  if (!library().live.count(comm)) {
    report(fmt::format("{} on a communicator that was destroyed or aborted", call));
    return false;
  }
  if (comm->in_progress) {
    report(fmt::format("{} on communicator '{}' while an earlier call is in progress", call,
                       comm->member->name));
    return false;
  }
  return true;
}

// With the mutex of the library: false when the operation may not be on that stream.
bool check_stream(const Call& call) {
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  const auto refuse = [&](const std::string& why) {
    device.report_locked(fmt::format("{} of '{}' on {}", name_of(call), call.comm->member->name, why));
    return false;
  };
  if (!call.stream) return refuse("the default stream");
  if (!device.is_live(call.stream)) return refuse("a stream that is gone");
  if (call.stream->is_default) return refuse("the default stream");
  if (call.stream == device.callers_stream) return refuse("a stream of the caller");
  if (call.stream->device != call.comm->member->device) return refuse("a stream of another device");
  call.stream->used_by.insert(call.comm);
  call.comm->streams.insert(call.stream);
  return true;
}

ncclResult_t begin(ncclComm_t comm, std::function<bool()> in_progress) {
  comm->in_progress = std::move(in_progress);
  return ncclInProgress;
}

// With the mutex of the library.
ncclResult_t launch(std::vector<Call> calls) {
  std::vector<ncclComm_t> comms;
  for (const Call& call : calls) {
    if (std::ranges::find(comms, call.comm) == comms.end()) comms.push_back(call.comm);
  }
  ncclResult_t result = ncclSuccess;
  for (ncclComm_t comm : comms) {
    std::vector<Call> own;
    std::ranges::copy_if(calls, std::back_inserter(own), [&](const Call& call) { return call.comm == comm; });
    count_launches_in_progress(own, 1);
    comm->launching = std::move(own);
    result = begin(comm, [comm, polls = kPolls]() mutable {
      if (--polls > 0) return false;
      const std::vector<Call> launched = std::exchange(comm->launching, {});
      count_launches_in_progress(launched, -1);
      put_on_streams(comm, launched);
      return true;
    });
  }
  return result;
}

ncclResult_t add(const Call& call) {
  const std::lock_guard lock(library().mutex);
  if (!check_usable(call.comm, name_of(call))) return ncclInvalidArgument;
  if (call.comm->is_finalized) {
    report(fmt::format("{} on communicator '{}' after ncclCommFinalize", name_of(call),
                       call.comm->member->name));
    return ncclInvalidArgument;
  }
  if (!check_stream(call)) return ncclInvalidArgument;
  if (group_depth > 0) {
    group_calls.push_back(call);
    return ncclSuccess;
  }
  return launch({call});
}

ncclComm_t make_comm(std::shared_ptr<Member> member, const ncclConfig_t* config) {
  auto* comm = new ncclComm;
  comm->member = std::move(member);
  comm->description = fmt::format("{}, {}, blocks {} to {}", comm->member->name,
                                  comm->member->shares ? "shares resources" : "shares nothing",
                                  config ? config->minCTAs : 0, config ? config->maxCTAs : 0);
  if (!config || config->blocking != 0)
    report(fmt::format("communicator '{}' is made without blocking = 0", comm->member->name));
  library().live.insert(comm);
  return comm;
}

// With the mutex of the library.
void forget(ncclComm_t comm) {
  count_launches_in_progress(comm->launching, -1);
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  for (cudaStream_t stream : comm->streams) {
    if (device.is_live(stream)) stream->used_by.erase(comm);
  }
  library().live.erase(comm);
  delete comm;
}

std::string name_in(const ncclConfig_t* config) {
  return config && config->commName ? config->commName : "unnamed";
}

/// What is known of a split before the new group is: by the mutex of the library.
struct Split {
  ncclComm_t parent, child;  // no child: not in any group
  uint64_t round;
  int color;
  std::shared_ptr<bool> is_over = std::make_shared<bool>(false);

  SplitEntry& entry(int rank) const { return parent->member->shared().splits[round % kSplitRounds][rank]; }

  bool has_everybody() const {
    for (int rank = 0; rank < parent->member->size; ++rank) {
      if (entry(rank).round.load(std::memory_order_acquire) != round) return false;
    }
    return true;
  }
  std::vector<int> members() const {
    std::vector<int> ranks;
    for (int rank = 0; rank < parent->member->size; ++rank) {
      if (entry(rank).color == color) ranks.push_back(rank);
    }
    std::ranges::stable_sort(ranks, {}, [&](int rank) { return entry(rank).key; });
    return ranks;
  }
  /// Puts the child into its group, which its first rank makes; false while that is not there.
  bool join() const {
    const std::vector<int> ranks = members();
    const Member& from = *parent->member;
    Member& to = *child->member;
    SharedFamily& shared = from.family->shared();
    SplitEntry& first = entry(ranks.front());
    if (ranks.front() == from.rank) {
      const auto made = static_cast<int32_t>(shared.groups.fetch_add(1));
      if (made < kMaxGroups) {
        Group& group = shared.group[made];
        group.size = static_cast<int32_t>(ranks.size());
        for (size_t i = 0; i < ranks.size(); ++i) group.members[i] = from.shared().members[ranks[i]];
      }
      first.group_plus_1.store(made + 1, std::memory_order_release);
    }
    const int32_t group = first.group_plus_1.load(std::memory_order_acquire) - 1;
    if (group < 0) return false;
    if (group >= kMaxGroups) throw std::length_error("the stand-in has no room for so many communicators");
    to.group = group;
    to.size = static_cast<int>(ranks.size());
    to.rank = static_cast<int>(std::ranges::find(ranks, from.rank) - ranks.begin());
    to.shared().arrived.fetch_add(1);
    return true;
  }
};

}  // namespace

void set_nccl_version(int version) {
  const std::lock_guard lock(library().mutex);
  library().version = version;
}

void fail_communicators(int nccl_result, const std::string& text) {
  const std::lock_guard lock(library().mutex);
  library().last_error = text;
  for (ncclComm_t comm : library().live) comm->member->error = nccl_result;
}

void hang_in_abort() {
  const std::lock_guard lock(library().mutex);
  library().hangs_in_abort = true;
}

std::vector<std::string> communicators() {
  std::vector<std::string> descriptions;
  const std::lock_guard lock(library().mutex);
  for (ncclComm_t comm : library().live) descriptions.push_back(comm->description);
  std::ranges::sort(descriptions);
  return descriptions;
}

std::vector<std::string> leaks() {
  std::vector<std::string> left;
  {
    const std::lock_guard lock(library().mutex);
    for (ncclComm_t comm : library().live)
      left.push_back(fmt::format("communicator '{}'", comm->member->name));
  }
  Device& device = Device::get();
  const std::lock_guard lock(device.mutex);
  const auto note = [&](size_t count, const char* what) {
    if (count > 0) left.push_back(fmt::format("{} {}", count, what));
  };
  note(device.streams.size() - device.default_streams.size(), "streams");
  note(device.events.size(), "events");
  note(device.pinned.size(), "blocks of pinned memory");
  note(device.registered.size(), "registered blocks of memory");
  return left;
}

}  // namespace tmd::test::stand_in

using namespace tmd::test::stand_in;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  const std::lock_guard lock(library().mutex);
  *version = library().version;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId) {
  *uniqueId = Family::make_id();
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "in progress";
    default:
      return "an error of the stand-in";
  }
}

const char* ncclGetLastError(ncclComm_t) {
  static thread_local std::string text;
  const std::lock_guard lock(library().mutex);
  text = library().last_error;
  return text.c_str();
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank,
                                    ncclConfig_t* config) {
  const std::shared_ptr<Family> family = Family::attach(commId, rank, nranks);
  if (!family) return ncclSystemError;
  auto member = std::make_shared<Member>();
  member->family = family;
  member->rank = rank;
  member->size = nranks;
  member->name = name_in(config);
  member->device = current_device();
  member->shares = config && config->splitShare == 1;
  member->turns = family->turns;
  member->stops = family->stops;
  const std::lock_guard lock(library().mutex);
  *comm = make_comm(member, config);
  return begin(
      *comm, [family, nranks] { return family->shared().attached.load() == static_cast<uint32_t>(nranks); });
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm, ncclConfig_t* config) {
  const std::lock_guard lock(library().mutex);
  if (!check_usable(comm, "ncclCommSplit")) return ncclInvalidArgument;
  if (comm->member->unfinished > 0)
    report(fmt::format("ncclCommSplit of '{}' while operations are under way", comm->member->name));
  Split split{.parent = comm, .child = nullptr, .round = ++comm->splits, .color = color};
  *newcomm = nullptr;
  if (color != NCCL_SPLIT_NOCOLOR) {
    auto member = std::make_shared<Member>();
    member->family = comm->member->family;
    member->name = name_in(config);
    member->device = comm->member->device;
    member->shares = config && config->splitShare == 1 && comm->member->shares;
    member->turns = member->shares ? comm->member->turns : std::make_shared<Turns>();
    member->stops = member->shares ? comm->member->stops : std::make_shared<std::atomic<bool>>(false);
    split.child = comm->splitting_off = make_comm(member, config);
    begin(split.child, [member, is_over = split.is_over] {
      return *is_over && member->shared().arrived.load() == static_cast<uint32_t>(member->shared().size);
    });
  }
  SplitEntry& own = split.entry(comm->member->rank);
  own.color = color;
  own.key = key;
  own.group_plus_1 = 0;
  own.round.store(split.round, std::memory_order_release);
  return begin(comm, [split, newcomm] {
    if (!split.has_everybody()) return false;
    *split.is_over = !split.child || split.join();
    if (*split.is_over) *newcomm = std::exchange(split.parent->splitting_off, nullptr);
    return *split.is_over;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const std::lock_guard lock(library().mutex);
  if (!check_usable(comm, "ncclCommFinalize")) return ncclInvalidArgument;
  comm->is_finalized = true;
  comm->member->shared().finalized.fetch_add(1);
  return begin(comm, [member = comm->member] {
    return member->unfinished == 0 &&
           member->shared().finalized.load() == static_cast<uint32_t>(member->size);
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const std::lock_guard lock(library().mutex);
  if (!check_usable(comm, "ncclCommDestroy")) return ncclInvalidArgument;
  if (!comm->is_finalized)
    report(fmt::format("ncclCommDestroy of '{}' before ncclCommFinalize", comm->member->name));
  forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  std::shared_ptr<Member> member;
  {
    const std::lock_guard lock(library().mutex);
    if (!library().live.count(comm)) {
      report("ncclCommAbort on a communicator that was destroyed or aborted");
      return ncclInvalidArgument;
    }
    member = comm->member;
    *member->stops = true;
  }
  const auto hangs = [] {
    const std::lock_guard lock(library().mutex);
    return library().hangs_in_abort;
  };
  // What runs on a stream sees the flag.
  while (member->running > 0 || hangs()) std::this_thread::sleep_for(std::chrono::microseconds(200));
  const std::lock_guard lock(library().mutex);
  if (comm->splitting_off) forget(comm->splitting_off);
  forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError) {
  const std::lock_guard lock(library().mutex);
  if (!library().live.count(comm)) {
    report("ncclCommGetAsyncError on a communicator that was destroyed or aborted");
    return ncclInvalidArgument;
  }
  *asyncError = static_cast<ncclResult_t>(comm->member->error.load());
  if (*asyncError != ncclSuccess || !comm->in_progress) return ncclSuccess;
  if (comm->in_progress()) {
    comm->in_progress = nullptr;
  } else {
    *asyncError = ncclInProgress;
  }
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  const std::lock_guard lock(library().mutex);
  if (!check_usable(comm, "ncclCommCount")) return ncclInvalidArgument;
  *count = comm->member->size;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  const std::lock_guard lock(library().mutex);
  if (!check_usable(comm, "ncclCommUserRank")) return ncclInvalidArgument;
  *rank = comm->member->rank;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0) return ncclSuccess;
  const std::lock_guard lock(library().mutex);
  return launch(std::exchange(group_calls, {}));
}

ncclResult_t ncclBroadcast(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return add({.kind = Kind::kBroadcast,
              .input = sendbuff,
              .output = recvbuff,
              .count = count,
              .type = datatype,
              .peer = root,
              .comm = comm,
              .stream = stream});
}

ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return add({.kind = Kind::kAllReduce,
              .input = sendbuff,
              .output = recvbuff,
              .count = count,
              .type = datatype,
              .op = op,
              .comm = comm,
              .stream = stream});
}

ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount,
                               ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  return add({.kind = Kind::kReduceScatter,
              .input = sendbuff,
              .output = recvbuff,
              .count = recvcount,
              .type = datatype,
              .op = op,
              .comm = comm,
              .stream = stream});
}

ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount, ncclDataType_t datatype,
                           ncclComm_t comm, cudaStream_t stream) {
  return add({.kind = Kind::kAllGather,
              .input = sendbuff,
              .output = recvbuff,
              .count = sendcount,
              .type = datatype,
              .comm = comm,
              .stream = stream});
}

ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({.kind = Kind::kMessages,
              .is_send = true,
              .input = sendbuff,
              .count = count,
              .type = datatype,
              .peer = peer,
              .comm = comm,
              .stream = stream});
}

ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({.kind = Kind::kMessages,
              .output = recvbuff,
              .count = count,
              .type = datatype,
              .peer = peer,
              .comm = comm,
              .stream = stream});
}

}  // extern "C"
