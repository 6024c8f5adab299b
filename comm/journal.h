#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tmd::comm {

enum class OperationKind : uint32_t {
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kBroadcast,
  kAllToAll,
  kSend,
  kRecv,
  kBarrier,
  kSplit,
  kClose,
};

/// "all_gather" and so on.
std::string_view name(OperationKind kind);

/// One operation as a journal shows it. Times are seconds since 1970, 0 = has not happened.
struct JournalEntry {
  uint64_t sequence = 0;  ///< 1 for the first operation of the process
  OperationKind kind = OperationKind::kAllGather;
  std::string communicator;  ///< its first 23 bytes
  int64_t elements = 0;
  int peer = -1;      ///< of send, recv and broadcast (root), else -1
  int tag = -1;       ///< of send and recv, else -1
  std::string phase;  ///< of the host when it made the call, its first 39 bytes
  double queued_s = 0;
  double started_s = 0;
  double finished_s = 0;
};

struct JournalContent {
  int rank = -1;
  int64_t pid = 0;
  std::string host;                   ///< name of the machine, its first 63 bytes
  std::string phase;                  ///< where the host is now
  uint64_t awaited = 0;               ///< sequence of the operation that the host is blocked in, 0 = none
  uint64_t entered = 0;               ///< operations since the process began
  std::vector<JournalEntry> entries;  ///< the last ones, oldest first
};

/// The last operations of one process and the phase its host is in, in memory that other processes can read
/// through a file, so that the position of a stopped or dead rank is known.
/// Thread: any; each call takes one short lock.
class Journal {
 public:
  /// Keeps the last `capacity` operations. Throws kInternal for 0, kIo when there is no memory.
  explicit Journal(size_t capacity = 256);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// From now on the journal lives in `file` (created, or emptied first) as that of `rank`; what it holds
  /// moves there. Throws kIo when the file cannot be made in its full size, and goes on in memory.
  void move_to_file(const std::filesystem::path& file, int rank);

  /// Names what the host does from now on ("student: backward"). Its first 39 bytes are kept, by copy.
  void set_phase(std::string_view phase);

  /// Returns the sequence number of the new entry, by which it is marked later. Marking an entry that the
  /// ring has dropped does nothing. `elements`: of this rank's part of the operation.
  uint64_t enter(OperationKind kind, std::string_view communicator, int64_t elements, int peer = -1,
                 int tag = -1);
  void mark_started(uint64_t sequence);
  void mark_finished(uint64_t sequence);

  /// The host blocks in operation `sequence` from now on, or, 0, no longer. One thread at a time.
  void mark_waiting(uint64_t sequence);
  /// The same for an operation that a device does while the host goes on, unless the host is blocked in
  /// something already.
  void mark_waiting_on_device(uint64_t sequence);
  /// Takes back what `mark_waiting_on_device` has marked, if it still stands there.
  void unmark_waiting_on_device(uint64_t sequence);
  /// Since when the host has been blocked in one operation, seconds since 1970; 0 = it is not.
  double waiting_since_s() const;

  /// A copy of what the journal holds now.
  JournalContent content() const;

 private:
  struct Header;
  struct Record;
  class Memory;

  Record* record_of(uint64_t sequence);
  void store_waiting(uint64_t sequence);
  static JournalContent parse(const std::byte* bytes, size_t size_bytes, const std::string& source);
  friend JournalContent read_journal(const std::filesystem::path& file);

  mutable std::mutex mutex_;
  std::unique_ptr<Memory> memory_;
};

/// Reads the journal file of any process of this program, alive or dead. An entry that was being written is
/// left out. Throws kIo when the file cannot be read and kData when it is no journal of this version.
JournalContent read_journal(const std::filesystem::path& file);

/// One line for the process and one for each of its last `count` entries, oldest first, in local time.
std::string to_text(const JournalContent& journal, size_t count);

}  // namespace tmd::comm
