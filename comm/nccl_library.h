#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/cuda_runtime.h"
#include "base/error.h"
#include "comm/communicator.h"
#include "comm/nccl_options.h"

struct ncclComm;  // what an ncclComm_t points to

// The calls into NCCL, and nothing else; nccl.h stays in the .cpp. It sees pointers, counts, types and
// streams. No call blocks inside the library: communicators are made with blocking = 0, and what NCCL says is
// in progress is polled here, through an NcclPoll that may give up.
// Thread: only the launch thread calls what stands here, with the device of the communicators set, except the
// versions.
// Errors: kUnavailable where a communicator is made, kInternal when NCCL calls arguments or usage invalid,
// kPeerLost for everything else; each with the call, the communicator, NCCL's text and its last message.

namespace tmd::comm {

/// As NCCL codes them: 22809 is 2.28.9. Of the library that is loaded, and of the header of this build.
int nccl_loaded_version();
int nccl_built_version();
/// "2.28.9"
std::string nccl_version_text(int version);

/// What the first ranks of a group find one another by.
using NcclId = std::array<std::byte, 128>;
NcclId nccl_make_id();

enum class NcclType { kUint8, kInt32, kInt64, kFloat16, kBfloat16, kFloat32, kFloat64 };

/// Asked between two polls of a call that is in progress.
class NcclPoll {
 public:
  /// Lets some time go by. Throws to give the call up; `waited`: since it began.
  virtual void pause(const char* call, const std::string& group,
                     std::chrono::steady_clock::duration waited) = 0;

 protected:
  ~NcclPoll() = default;
};

/// Owns one NCCL communicator. Destroyed before `finalize` or `abort`, it leaks the handle, since both need
/// the other ranks.
class NcclGroup {
 public:
  /// Collective over: the `size` ranks that were given `id`. `poll` must outlive the group and those that are
  /// split off.
  static std::unique_ptr<NcclGroup> make(const NcclId& id, int rank, int size, const std::string& name,
                                         const NcclOptions& options, NcclPoll& poll);
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  int rank() const { return rank_; }
  const std::string& name() const { return name_; }

  /// The group of the ranks with the same color, ordered by key; none where `color` is negative. No operation
  /// of the family may be under way. Collective over: this group.
  std::unique_ptr<NcclGroup> split(int color, int key, const std::string& name, const NcclOptions& options);

  // Operations: on `stream` when the call returns. Counts are of `type`, of one rank's part where there are
  // parts. In place where the contract of the communicator allows it. Collective over: this group.
  void all_gather(const void* input, void* output, size_t count, NcclType type, cuda::StreamHandle stream);
  void reduce_scatter(const void* input, void* output, size_t count, NcclType type, ReduceOp op,
                      cuda::StreamHandle stream);
  void all_reduce(void* data, size_t count, NcclType type, ReduceOp op, cuda::StreamHandle stream);
  void broadcast(void* data, size_t count, NcclType type, int root, cuda::StreamHandle stream);
  void all_to_all(const void* input, void* output, size_t count, NcclType type, cuda::StreamHandle stream);

  /// What an operation of the group has failed with since it was started.
  std::optional<Error> failure();

  /// Ends the communicator; nothing may be under way. Its streams must live so long. Collective over: this
  /// group.
  void finalize();

  /// Ends the communicators of this process whatever is under way, and what the device does for them. Returns
  /// what NCCL complained of, else nothing. May hang when the device does: have a deadline beside it.
  static std::optional<Error> abort(std::span<NcclGroup* const> groups) noexcept;

 private:
  NcclGroup(std::string name, int size, NcclPoll& poll);

  void check(int code, const char* call, ErrorKind kind = ErrorKind::kPeerLost);
  void settle(const char* call, ErrorKind kind = ErrorKind::kPeerLost);
  void adopt(const char* call);

  ncclComm* handle_ = nullptr;
  std::string name_;  // NCCL keeps a pointer to it
  int rank_ = -1;
  int size_ = 0;
  NcclPoll& poll_;
};

}  // namespace tmd::comm
