#include "tests/support/nccl_stand_in/family.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sched.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>

#include "tests/support/nccl_stand_in/device.h"

namespace tmd::test::stand_in {
namespace {

struct Card {
  char magic[8];
  int32_t process, descriptor;
};
constexpr char kMagic[8] = {'s', 't', 'a', 'n', 'd', '-', 'i', 'n'};

const char* name_of(int32_t kind) {
  switch (static_cast<Kind>(kind)) {
    case Kind::kAllGather:
      return "all_gather";
    case Kind::kReduceScatter:
      return "reduce_scatter";
    case Kind::kAllReduce:
      return "all_reduce";
    case Kind::kBroadcast:
      return "broadcast";
    case Kind::kMessages:
      return "send/receive";
    case Kind::kNone:
      break;
  }
  return "nothing";
}

}  // namespace

std::string to_text(const Signature& signature) {
  return fmt::format("{} number {} of {} elements (type {}, op {}, root {})", name_of(signature.kind),
                     signature.sequence, signature.count, signature.type, signature.op, signature.root);
}

uint64_t Turns::take_ticket() {
  const std::lock_guard lock(mutex_);
  return next_++;
}

bool Turns::enter(uint64_t ticket, const std::atomic<bool>& stops) {
  std::unique_lock lock(mutex_);
  // Whoever sets `stops` does not know of this lock.
  while (serving_ != ticket && !stops) changed_.wait_for(lock, std::chrono::milliseconds(5));
  return !stops;
}

void Turns::leave() {
  const std::lock_guard lock(mutex_);
  ++serving_;
  changed_.notify_all();
}

// The descriptor stays open: it is how the others get at the memory, and it goes with the process.
ncclUniqueId Family::make_id() {
  ncclUniqueId id{};
  Card card{};
  std::memcpy(card.magic, kMagic, sizeof(kMagic));
  card.process = ::getpid();
  card.descriptor = ::memfd_create("nccl_stand_in", MFD_CLOEXEC);
  if (card.descriptor < 0 || ::ftruncate(card.descriptor, sizeof(SharedFamily)) != 0) throw std::bad_alloc();
  std::memcpy(id.internal, &card, sizeof(card));
  return id;
}

std::shared_ptr<Family> Family::attach(const ncclUniqueId& id, int rank, int ranks) {
  Card card{};
  std::memcpy(&card, id.internal, sizeof(card));
  if (std::memcmp(card.magic, kMagic, sizeof(kMagic)) != 0 || ranks > kMaxRanks) return nullptr;
  const std::string path = fmt::format("/proc/{}/fd/{}", card.process, card.descriptor);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  void* memory = ::mmap(nullptr, sizeof(SharedFamily), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                        descriptor, 0);
  ::close(descriptor);
  if (memory == MAP_FAILED) return nullptr;
  auto* shared = static_cast<SharedFamily*>(memory);
  Group& world = shared->group[0];  // every rank writes the same
  std::shared_ptr<Family> family(new Family(shared, rank));
  if (rank == 0) {
    world.size = ranks;
    for (int i = 0; i < ranks; ++i) world.members[i] = i;
    shared->groups.store(1);
  }
  shared->attached.fetch_add(1);
  return family;
}

Family::~Family() { ::munmap(shared_, sizeof(SharedFamily)); }

bool Transfers::put(Transfer& transfer, Mailbox& box) {
  if (box.put.load(std::memory_order_acquire) != box.taken.load(std::memory_order_acquire)) return false;
  const size_t chunk = std::min(kSlotBytes, transfer.bytes - transfer.done);
  box.signature = signature_;
  box.total_bytes = transfer.bytes;
  box.chunk_bytes = chunk;
  if (chunk > 0) std::memcpy(box.data, transfer.data + transfer.done, chunk);
  box.put.fetch_add(1, std::memory_order_release);
  transfer.done += chunk;
  transfer.is_complete = transfer.done == transfer.bytes;
  return true;
}

bool Transfers::take(Transfer& transfer, Mailbox& box) {
  if (box.put.load(std::memory_order_acquire) == box.taken.load(std::memory_order_acquire)) return false;
  const bool is_message = signature_.kind == static_cast<int32_t>(Kind::kMessages);
  const bool is_same = is_message ? box.signature.kind == signature_.kind : box.signature == signature_;
  if (!is_same || box.total_bytes != transfer.bytes) {
    break_family(fmt::format("rank {} does {} ({} bytes for this rank) while rank {} does {} ({} bytes)",
                             transfer.peer, to_text(box.signature), box.total_bytes, member_.rank,
                             to_text(signature_), transfer.bytes));
    return false;
  }
  if (box.chunk_bytes > 0) std::memcpy(transfer.data + transfer.done, box.data, box.chunk_bytes);
  transfer.done += box.chunk_bytes;
  box.taken.fetch_add(1, std::memory_order_release);
  transfer.is_complete = transfer.done == transfer.bytes;
  return true;
}

bool Transfers::advance(Transfer& transfer) {
  auto& boxes = member_.shared().boxes;
  return transfer.is_send ? put(transfer, boxes[member_.rank][transfer.peer])
                          : take(transfer, boxes[transfer.peer][member_.rank]);
}

void Transfers::break_family(const std::string& what) {
  if (member_.family->shared().is_broken.exchange(1) == 0 || member_.error == ncclSuccess) {
    Device::get().report(fmt::format("ranks of communicator '{}' differ: {}", member_.name, what));
  }
  member_.error = ncclInvalidUsage;
}

void Transfers::await(const Transfer& transfer) {
  if (!member_.shares) return;
  const int peer = transfer.peer + 1;
  member_.family->shared().doing[member_.family->rank()].awaits_plus_1 = transfer.is_send ? -peer : peer;
}

namespace {

/// The rank of the family that `rank` waits for, -1: none.
int awaited_rank(SharedFamily& shared, int rank) {
  const uint64_t operation = shared.doing[rank].operation.load();
  const int32_t awaits = shared.doing[rank].awaits_plus_1.load();
  if (operation == 0 || awaits == 0) return -1;
  Group& group = shared.group[(operation >> 40) - 1];
  const int peer = std::abs(awaits) - 1;
  const int self =
      static_cast<int>(std::find(group.members, group.members + group.size, rank) - group.members);
  if (self == group.size) return -1;
  // It may have been served, and not have seen that yet.
  const Mailbox& box = awaits < 0 ? group.boxes[self][peer] : group.boxes[peer][self];
  const bool is_full = box.put.load() != box.taken.load();
  return is_full == (awaits < 0) ? group.members[peer] : -1;
}

}  // namespace

// Each rank of a circle does another operation than the rank that it waits for. A family does one at a time.
bool Transfers::is_deadlocked() const {
  if (!member_.shares) return false;
  SharedFamily& shared = member_.family->shared();
  const int self = member_.family->rank();
  int rank = self;
  for (int steps = 0; steps < kMaxRanks; ++steps) {
    const int next = awaited_rank(shared, rank);
    if (next < 0) return false;
    const uint64_t theirs = shared.doing[next].operation.load();
    if (theirs == 0 || theirs == shared.doing[rank].operation.load()) return false;
    rank = next;
    if (rank == self) return true;
  }
  return false;
}

bool Transfers::run() {
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_move = Clock::now();
  int suspicious = 0;
  while (true) {
    if (*member_.stops) return false;
    if (member_.family->shared().is_broken) {
      if (member_.error == ncclSuccess) break_family("another rank has found it");
      return false;
    }
    bool has_moved = false;
    const Transfer* waiting = nullptr;
    bool is_taken[2][kMaxRanks] = {};  // an earlier transfer with the peer in the same direction is not over
    for (Transfer& transfer : all_) {
      bool& busy = is_taken[transfer.is_send][transfer.peer];
      if (transfer.is_complete || busy) continue;
      has_moved = advance(transfer) || has_moved;
      if (transfer.is_complete) continue;
      busy = true;
      waiting = &transfer;
    }
    if (!waiting) return true;
    if (has_moved) {
      last_move = Clock::now();
      suspicious = 0;
      continue;
    }
    await(*waiting);
    const auto idle = Clock::now() - last_move;
    if (idle < std::chrono::microseconds(100)) {
      sched_yield();
      continue;
    }
    std::this_thread::sleep_for(idle < std::chrono::milliseconds(5) ? std::chrono::microseconds(100)
                                                                    : std::chrono::microseconds(2000));
    // The picture is put together from several reads: it must hold for a while.
    suspicious = idle > std::chrono::milliseconds(50) && is_deadlocked() ? suspicious + 1 : 0;
    if (suspicious > 20) {
      break_family(
          fmt::format("{} waits for rank {}, which does another operation and waits for this rank: "
                      "their orders differ",
                      to_text(signature_), waiting->peer));
      return false;
    }
  }
}

void run_in_turn(Member& member, uint64_t ticket, const Signature& signature,
                 const std::function<void()>& body) {
  if (member.turns->enter(ticket, *member.stops)) {
    Doing& own = member.family->shared().doing[member.family->rank()];
    if (member.shares) own.operation = (static_cast<uint64_t>(member.group) + 1) << 40 | signature.sequence;
    ++member.running;
    body();
    --member.running;
    if (member.shares) {
      own.operation = 0;
      own.awaits_plus_1 = 0;
    }
    member.turns->leave();
  }
  const std::lock_guard lock(Device::get().mutex);
  member.unfinished.fetch_sub(1);
  Device::get().changed.notify_all();
}

}  // namespace tmd::test::stand_in
