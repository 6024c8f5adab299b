#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <nccl.h>
#include <span>
#include <string>
#include <vector>

namespace tmd::test::stand_in {

// What the processes of a family of communicators share. All of it begins as zeros.

inline constexpr int kMaxRanks = 8;
inline constexpr int kMaxGroups = 2048;  // room that nothing touches is not taken
inline constexpr size_t kSlotBytes = 64 * 1024;
inline constexpr int kSplitRounds = 8;

enum class Kind : int32_t { kNone, kAllGather, kReduceScatter, kAllReduce, kBroadcast, kMessages };

/// What an operation looks like to the other ranks.
struct Signature {
  uint64_t sequence = 0;  ///< of the operations of its communicator, from 1
  uint64_t count = 0;
  int32_t kind = 0, type = 0, op = 0, root = 0;
  bool operator==(const Signature&) const = default;
};
std::string to_text(const Signature& signature);

/// From one rank to another: one chunk at a time.
struct Mailbox {
  std::atomic<uint64_t> put, taken;
  Signature signature;
  uint64_t total_bytes, chunk_bytes;
  std::byte data[kSlotBytes];
};

struct SplitEntry {
  std::atomic<uint64_t> round;  // when the rest is there
  int32_t color, key;
  std::atomic<int32_t> group_plus_1;  // by the first rank of the new group
};

/// The ranks of one communicator.
struct Group {
  std::atomic<uint32_t> arrived, finalized;
  int32_t size;
  int32_t members[kMaxRanks];  // ranks of the family
  SplitEntry splits[kSplitRounds][kMaxRanks];
  Mailbox boxes[kMaxRanks][kMaxRanks];  // [from][to]
};

/// What the device of a rank is doing.
struct Doing {
  std::atomic<uint64_t> operation;     // its group and sequence, 0: none
  std::atomic<int32_t> awaits_plus_1;  // rank of the family
};

struct SharedFamily {
  std::atomic<uint32_t> attached, groups;
  std::atomic<uint32_t> is_broken;  // ranks differ: all their operations end
  Doing doing[kMaxRanks];
  Group group[kMaxGroups];
};

/// Lets the operations of a family run one after the other, in the order of their launches.
class Turns {
 public:
  uint64_t take_ticket();
  /// Waits for the ticket's turn; false when `stops` came first.
  bool enter(uint64_t ticket, const std::atomic<bool>& stops);
  void leave();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_ = 0, serving_ = 0;
};

/// This process's view of one shared mapping.
class Family {
 public:
  /// The card by which the others find the mapping that this makes.
  static ncclUniqueId make_id();
  /// Null when the mapping cannot be reached.
  static std::shared_ptr<Family> attach(const ncclUniqueId& id, int rank, int ranks);
  ~Family();
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  SharedFamily& shared() const { return *shared_; }
  int rank() const { return rank_; }

  const std::shared_ptr<Turns> turns = std::make_shared<Turns>();
  const std::shared_ptr<std::atomic<bool>> stops = std::make_shared<std::atomic<bool>>(false);

 private:
  Family(SharedFamily* shared, int rank) : shared_(shared), rank_(rank) {}

  SharedFamily* shared_;
  int rank_;
};

/// What the operations of one communicator work with; outlives its handle.
struct Member {
  std::shared_ptr<Family> family;
  int group = 0;  // its index
  int rank = 0, size = 0;
  int device = 0;
  std::string name;
  bool shares = false;
  std::shared_ptr<Turns> turns;
  std::shared_ptr<std::atomic<bool>> stops;
  std::atomic<int> error = ncclSuccess;  // asynchronous
  std::atomic<int> unfinished = 0;       // operations that were launched
  std::atomic<int> running = 0;          // of those: whose turn it is

  Group& shared() const { return family->shared().group[group]; }
};

/// Sends and receives that go on at the same time; those between two ranks keep their order.
class Transfers {
 public:
  Transfers(Member& member, const Signature& signature) : member_(member), signature_(signature) {}

  void send(int peer, const void* data, size_t bytes) {
    all_.push_back(
        {peer, true, const_cast<std::byte*>(static_cast<const std::byte*>(data)), bytes, 0, false});
  }
  void receive(int peer, void* data, size_t bytes) {
    all_.push_back({peer, false, static_cast<std::byte*>(data), bytes, 0, false});
  }
  /// Returns when all are through; false when the communicator was stopped or its ranks differ in what they
  /// do, which is reported.
  bool run();

 private:
  struct Transfer {
    int peer;
    bool is_send;
    std::byte* data;
    size_t bytes, done;
    bool is_complete;
  };

  bool advance(Transfer& transfer);
  bool put(Transfer& transfer, Mailbox& box);
  bool take(Transfer& transfer, Mailbox& box);
  void break_family(const std::string& what);
  void await(const Transfer& transfer);
  bool is_deadlocked() const;

  Member& member_;
  Signature signature_;
  std::vector<Transfer> all_;
};

/// `body` on a thread of a stream: in turn, and visible to the others as what this rank does.
void run_in_turn(Member& member, uint64_t ticket, const Signature& signature,
                 const std::function<void()>& body);

}  // namespace tmd::test::stand_in
