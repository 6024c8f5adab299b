#include "comm/nccl_library.h"

#include <cstring>
#include <nccl.h>

#include <spdlog/fmt/fmt.h>

namespace tmd::comm {
namespace {

std::string text_of(ncclResult_t code, ncclComm_t comm) {
  std::string text = ncclGetErrorString(code);
  const char* last = ncclGetLastError(comm);
  if (last && *last) text += fmt::format(" ({})", last);
  return text;
}

Error error_of(ncclResult_t code, ncclComm_t comm, const char* call, const std::string& name,
               ErrorKind kind) {
  const bool is_ours = code == ncclInvalidArgument || code == ncclInvalidUsage;
  return Error(is_ours && kind == ErrorKind::kPeerLost ? ErrorKind::kInternal : kind,
               fmt::format("{} on communicator '{}' failed: {}", call, name, text_of(code, comm)),
               kind == ErrorKind::kUnavailable ? "NCCL_DEBUG=INFO makes NCCL say more" : "");
}

ncclDataType_t datatype_of(NcclType type) {
  switch (type) {
    case NcclType::kUint8:
      return ncclUint8;
    case NcclType::kInt32:
      return ncclInt32;
    case NcclType::kInt64:
      return ncclInt64;
    case NcclType::kFloat16:
      return ncclFloat16;
    case NcclType::kBfloat16:
      return ncclBfloat16;
    case NcclType::kFloat32:
      return ncclFloat32;
    case NcclType::kFloat64:
      return ncclFloat64;
  }
  return ncclUint8;
}

size_t bytes_of(NcclType type) {
  switch (type) {
    case NcclType::kUint8:
      return 1;
    case NcclType::kFloat16:
    case NcclType::kBfloat16:
      return 2;
    case NcclType::kInt32:
    case NcclType::kFloat32:
      return 4;
    case NcclType::kInt64:
    case NcclType::kFloat64:
      return 8;
  }
  return 1;
}

ncclRedOp_t operation_of(ReduceOp op) {
  return op == ReduceOp::kSum ? ncclSum : op == ReduceOp::kMin ? ncclMin : ncclMax;
}

// `name` must live as long as the communicator.
ncclConfig_t config_of(const NcclOptions& options, const std::string& name) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.splitShare = options.shares_resources ? 1 : 0;
  config.commName = name.c_str();
  if (options.min_ctas > 0) config.minCTAs = options.min_ctas;
  if (options.max_ctas > 0) config.maxCTAs = options.max_ctas;
  return config;
}

}  // namespace

static_assert(sizeof(ncclUniqueId) == sizeof(NcclId));

int nccl_loaded_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess)
    throw Error(ErrorKind::kUnavailable, "NCCL does not tell its version");
  return version;
}

int nccl_built_version() { return NCCL_VERSION_CODE; }

std::string nccl_version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

NcclId nccl_make_id() {
  ncclUniqueId made;
  const ncclResult_t code = ncclGetUniqueId(&made);
  if (code != ncclSuccess)
    throw Error(ErrorKind::kUnavailable, fmt::format("ncclGetUniqueId failed: {}", text_of(code, nullptr)),
                "NCCL_DEBUG=INFO makes NCCL say more; NCCL_SOCKET_IFNAME names the network to use");
  NcclId id;
  std::memcpy(id.data(), made.internal, id.size());
  return id;
}

NcclGroup::NcclGroup(std::string name, int size, NcclPoll& poll)
    : name_(std::move(name)), size_(size), poll_(poll) {}

NcclGroup::~NcclGroup() = default;

// What a call returned; in progress is polled to its end.
void NcclGroup::check(int code, const char* call, ErrorKind kind) {
  if (code == ncclInProgress) return settle(call, kind);
  if (code != ncclSuccess) throw error_of(static_cast<ncclResult_t>(code), handle_, call, name_, kind);
}

void NcclGroup::settle(const char* call, ErrorKind kind) {
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t code = ncclCommGetAsyncError(handle_, &state);
    if (code != ncclSuccess) throw error_of(code, handle_, "ncclCommGetAsyncError", name_, kind);
    if (state == ncclSuccess) return;
    if (state != ncclInProgress) throw error_of(state, handle_, call, name_, kind);
    poll_.pause(call, name_, std::chrono::steady_clock::now() - begin);
  }
}

// A handle that NCCL is still making: waits for it, and asks it for the rank.
void NcclGroup::adopt(const char* call) {
  try {
    settle(call, ErrorKind::kUnavailable);
    check(ncclCommUserRank(handle_, &rank_), "ncclCommUserRank", ErrorKind::kUnavailable);
    check(ncclCommCount(handle_, &size_), "ncclCommCount", ErrorKind::kUnavailable);
  } catch (...) {
    NcclGroup* const self = this;
    (void)abort({&self, 1});
    throw;
  }
}

std::unique_ptr<NcclGroup> NcclGroup::make(const NcclId& id, int rank, int size, const std::string& name,
                                           const NcclOptions& options, NcclPoll& poll) {
  std::unique_ptr<NcclGroup> made(new NcclGroup(name, size, poll));
  ncclUniqueId nccl_id;
  std::memcpy(nccl_id.internal, id.data(), id.size());
  ncclConfig_t config = config_of(options, made->name_);
  const ncclResult_t code = ncclCommInitRankConfig(&made->handle_, size, nccl_id, rank, &config);
  if (code != ncclSuccess && code != ncclInProgress)
    throw error_of(code, nullptr, "ncclCommInitRankConfig", name, ErrorKind::kUnavailable);
  made->adopt("ncclCommInitRankConfig");
  return made;
}

std::unique_ptr<NcclGroup> NcclGroup::split(int color, int key, const std::string& name,
                                            const NcclOptions& options) {
  std::unique_ptr<NcclGroup> made(new NcclGroup(name, 0, poll_));
  ncclConfig_t config = config_of(options, made->name_);
  try {
    check(ncclCommSplit(handle_, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &made->handle_, &config),
          "ncclCommSplit", ErrorKind::kUnavailable);
    settle("ncclCommSplit", ErrorKind::kUnavailable);
  } catch (...) {
    (void)made.release();  // NCCL may still write the handle there
    throw;
  }
  // The state of the parent has told that the handle of the child is there.
  if (!made->handle_) return nullptr;
  made->adopt("ncclCommSplit");
  return made;
}

void NcclGroup::all_gather(const void* input, void* output, size_t count, NcclType type,
                           cuda::StreamHandle stream) {
  check(ncclAllGather(input, output, count, datatype_of(type), handle_, stream), "ncclAllGather");
}

void NcclGroup::reduce_scatter(const void* input, void* output, size_t count, NcclType type, ReduceOp op,
                               cuda::StreamHandle stream) {
  check(ncclReduceScatter(input, output, count, datatype_of(type), operation_of(op), handle_, stream),
        "ncclReduceScatter");
}

void NcclGroup::all_reduce(void* data, size_t count, NcclType type, ReduceOp op, cuda::StreamHandle stream) {
  check(ncclAllReduce(data, data, count, datatype_of(type), operation_of(op), handle_, stream),
        "ncclAllReduce");
}

void NcclGroup::broadcast(void* data, size_t count, NcclType type, int root, cuda::StreamHandle stream) {
  check(ncclBroadcast(data, data, count, datatype_of(type), root, handle_, stream), "ncclBroadcast");
}

// ncclAlltoAll is younger (2.28) than what is needed otherwise, and does the same.
void NcclGroup::all_to_all(const void* input, void* output, size_t count, NcclType type,
                           cuda::StreamHandle stream) {
  const auto* from = static_cast<const std::byte*>(input);
  auto* to = static_cast<std::byte*>(output);
  const size_t chunk_bytes = count * bytes_of(type);
  check(ncclGroupStart(), "ncclGroupStart");
  ncclResult_t first_failure = ncclSuccess;
  const auto note = [&](ncclResult_t code) {
    if (code != ncclSuccess && code != ncclInProgress && first_failure == ncclSuccess) first_failure = code;
  };
  for (size_t peer = 0; peer < static_cast<size_t>(size_); ++peer) {
    const int rank = static_cast<int>(peer);
    note(ncclSend(from + peer * chunk_bytes, count, datatype_of(type), rank, handle_, stream));
    note(ncclRecv(to + peer * chunk_bytes, count, datatype_of(type), rank, handle_, stream));
  }
  const ncclResult_t end = ncclGroupEnd();  // also after a failure: the group must not stay open
  if (first_failure != ncclSuccess)
    throw error_of(first_failure, handle_, "ncclSend and ncclRecv", name_, ErrorKind::kPeerLost);
  check(end, "ncclGroupEnd");
}

std::optional<Error> NcclGroup::failure() {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t code = ncclCommGetAsyncError(handle_, &state);
  if (code == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) return std::nullopt;
  return error_of(code != ncclSuccess ? code : state, handle_, "an operation", name_, ErrorKind::kPeerLost);
}

void NcclGroup::finalize() {
  check(ncclCommFinalize(handle_), "ncclCommFinalize");
  settle("ncclCommFinalize");
  check(ncclCommDestroy(std::exchange(handle_, nullptr)), "ncclCommDestroy");
}

std::optional<Error> NcclGroup::abort(std::span<NcclGroup* const> groups) noexcept {
  try {
    std::optional<Error> failure;
    const auto note = [&](ncclResult_t code, const char* call, const std::string& name) {
      if (code == ncclSuccess || code == ncclInProgress || failure) return;
      failure = error_of(code, nullptr, call, name, ErrorKind::kPeerLost);
    };
    // In one group: one after the other they could wait for one another.
    note(ncclGroupStart(), "ncclGroupStart", "all");
    for (NcclGroup* group : groups) {
      if (!group->handle_) continue;
      note(ncclCommAbort(std::exchange(group->handle_, nullptr)), "ncclCommAbort", group->name_);
    }
    note(ncclGroupEnd(), "ncclGroupEnd", "all");
    return failure;
  } catch (const std::exception& e) {
    return Error(ErrorKind::kInternal, e.what());
  }
}

}  // namespace tmd::comm
