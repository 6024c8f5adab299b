#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/writer.h"
#include "comm/communicator.h"

namespace tmd::checkpoint {

class PartWriter;

/// What is done on the writer threads beside writing.
struct SaveHooks {
  std::function<void()> before_write;   ///< on every rank, before its first byte; may throw
  std::function<void()> before_commit;  ///< on rank 0, before the folder gets its name; may throw
  std::function<void()> after_commit;   ///< on rank 0: clears older checkpoints away; may not throw
};

/// A checkpoint that is written while its owner goes on (checkpoint/FORMAT.md).
///
/// A thread on each rank first copies the groups that are about to change, then hashes and writes the parts
/// in the order in which they were given, others straight from the memory that they lie in. Before the owner
/// changes some of that memory it calls `keep`, which copies what is neither copied nor written yet of one
/// group; the copies of a part are freed when it is written. When all ranks have written
/// (the owner's `advance`), rank 0 adds the manifest and gives the folder its name, on its thread too.
///
/// Threads do no communication. Errors are kIo, the same on all ranks; FOLDER.partial is then removed, and
/// older checkpoints are as before.
/// Thread: one at a time.
class BackgroundSave {
 public:
  /// Clears the way for FOLDER.partial and starts. `description` is taken from rank 0. Errors as `save`.
  /// `changing`: the groups that are copied first. Keeps a reference to `comm`. The memory of `parts` is
  /// borrowed until is_idle() after the start, or until `keep` has copied it. Collective over: `comm`.
  BackgroundSave(comm::Communicator& comm, std::filesystem::path folder, Description description,
                 std::vector<LocalPart> parts, SaveHooks hooks = {}, std::vector<std::string> changing = {});
  /// Ends this rank's thread; does not communicate. What was not finished is cleared away by the next start.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  /// Copies what is not written yet of the parts whose group is `group`. No communication.
  void keep(const std::string& group);

  /// Whether this rank's thread has nothing to do: `advance` may be called once all ranks say so.
  bool is_idle() const;
  /// Goes on to the next part of the work, and says whether the checkpoint is complete. Every rank must be
  /// idle, else it waits. Collective over: the communicator.
  bool advance();
  /// Waits until the checkpoint is complete. Collective over: the communicator.
  void finish();

  int64_t step() const { return description_.step; }

 private:
  enum class Phase { kWriting, kCommitting, kDone };
  class Job;  // a function that runs on a thread of its own

  void start(std::function<void()> work);
  void abandon();
  void remove_partial() const;

  comm::Communicator& comm_;
  const std::filesystem::path folder_;
  const Description description_;
  const SaveHooks hooks_;
  std::unique_ptr<PartWriter> writer_;
  std::unique_ptr<Job> job_;
  Phase phase_ = Phase::kWriting;
};

}  // namespace tmd::checkpoint
