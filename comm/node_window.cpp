#include "comm/node_window.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <span>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "base/unique_handle.h"
#include "comm/algorithm.h"
#include "comm/mpi_progress_thread.h"
#include "comm/parts.h"

namespace tmd::comm {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kPage = 4096;

// One in a cache line, so that ranks that poll different ones do not disturb each other.
struct alignas(kLine) Counter {
  std::atomic<uint64_t> value;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "processes share counters");

void close_descriptor(int descriptor) { ::close(descriptor); }
using Descriptor = UniqueHandle<int, -1, close_descriptor>;

// Where a process id means the same process.
struct ProcessSpace {
  uint64_t device = 0;
  uint64_t node = 0;
  bool operator==(const ProcessSpace&) const = default;

  static ProcessSpace of_this_process() {
    struct stat status {};
    if (::stat("/proc/self/ns/pid", &status) != 0) return {};
    return {.device = status.st_dev, .node = status.st_ino};
  }
};

[[noreturn]] void fail(const char* what) {
  throw Error(ErrorKind::kUnavailable, fmt::format("{}: {}", what, std::strerror(errno)));
}

}  // namespace

// At the beginning of a segment. Written by its owner only.
struct NodeWindow::Header {
  std::array<uint64_t, 2> token;   // tells the segment from any other file
  Counter put;                     // chunks that the owner has put
  Counter taken[kMaxWindowRanks];  // by rank: chunks of that rank that the owner has taken
};

// What the owner of a segment tells the others about it.
struct NodeWindow::Card {
  std::array<uint64_t, 2> token{};
  ProcessSpace space;
  int32_t process = 0;
  int32_t descriptor = -1;  // none when the segment could not be made
};

/// One rank's memory as this process sees it.
class NodeWindow::Segment {
 public:
  static constexpr size_t kHeaderBytes = (sizeof(Header) + kPage - 1) / kPage * kPage;
  static constexpr size_t kBytes = kHeaderBytes + kSlots * kSlotBytes;

  /// A new one of this rank.
  explicit Segment(const std::array<uint64_t, 2>& token)
      : descriptor_(::memfd_create("tmd-window", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    if (!descriptor_.is_valid()) fail("memfd_create");
    if (::ftruncate(descriptor_.get(), kBytes) != 0) fail("ftruncate of a memfd");
    // A mapping of a file that shrinks would end in a signal.
    if (::fcntl(descriptor_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
      fail("sealing a memfd");
    map(PROT_READ | PROT_WRITE);
    header().token = token;
  }

  /// That of another process, to be read.
  explicit Segment(const Card& card) {
    const std::string path = fmt::format("/proc/{}/fd/{}", card.process, card.descriptor);
    descriptor_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!descriptor_.is_valid()) fail(path.c_str());
    struct stat status {};
    if (::fstat(descriptor_.get(), &status) != 0) fail(path.c_str());
    check(static_cast<size_t>(status.st_size) == kBytes, ErrorKind::kUnavailable, path + " is another file");
    map(PROT_READ);
    check(header().token == card.token, ErrorKind::kUnavailable, path + " is another file");
    close_file();
  }

  int descriptor() const { return descriptor_.get(); }
  /// The mapping stays.
  void close_file() { descriptor_.reset(); }
  Header& header() const { return *static_cast<Header*>(mapping_.get()); }
  std::byte* data() const { return static_cast<std::byte*>(mapping_.get()) + kHeaderBytes; }

 private:
  void map(int protection) {
    void* bytes = ::mmap(nullptr, kBytes, protection, MAP_SHARED, descriptor_.get(), 0);
    if (bytes == MAP_FAILED) fail("mmap of a window");
    mapping_ = Mapping(bytes);
  }
  static void unmap(void* bytes) { ::munmap(bytes, kBytes); }
  using Mapping = UniqueHandle<void*, nullptr, unmap>;

  Descriptor descriptor_;
  Mapping mapping_;
};

NodeWindow::NodeWindow(int rank, int size)
    : rank_(rank),
      size_(size),
      segments_(static_cast<size_t>(size)),
      put_before_(static_cast<size_t>(size), 0) {}

NodeWindow::~NodeWindow() = default;

NodeWindow::Turn::~Turn() {
  if (window_.waiting_.empty()) {
    window_.is_taken_ = false;
    return;
  }
  thread_.resume_soon(window_.waiting_.front());
  window_.waiting_.pop_front();
}

void NodeWindow::map_peers(const std::vector<Card>& cards) {
  for (int peer : ranks_after(rank_, size_)) {
    const Card& card = cards[static_cast<size_t>(peer)];
    check(card.descriptor >= 0, ErrorKind::kUnavailable, fmt::format("rank {} has no window", peer));
    check(card.space == ProcessSpace::of_this_process(), ErrorKind::kUnavailable,
          fmt::format("rank {} runs in another container", peer));
    segments_[static_cast<size_t>(peer)] = std::make_unique<Segment>(card);
  }
}

Flow NodeWindow::open(MpiOperation& operation) {
  const auto own = static_cast<size_t>(rank_);
  std::vector<Card> cards(static_cast<size_t>(size_));
  std::string reason;
  try {
    std::random_device random;
    for (uint64_t& word : cards[own].token) word = uint64_t{random()} << 32 | random();
    segments_[own] = std::make_unique<Segment>(cards[own].token);
    cards[own].space = ProcessSpace::of_this_process();
    cards[own].process = ::getpid();
    cards[own].descriptor = segments_[own]->descriptor();
  } catch (const Error& e) {
    reason = e.what();
  }
  MpiExchange exchange(operation);
  for (int peer : ranks_after(rank_, size_)) {
    exchange.receive(peer, reinterpret_cast<std::byte*>(&cards[static_cast<size_t>(peer)]), sizeof(Card));
    exchange.send(peer, reinterpret_cast<const std::byte*>(&cards[own]), sizeof(Card));
  }
  co_await exchange;
  if (reason.empty()) {
    try {
      map_peers(cards);
    } catch (const Error& e) {
      reason = e.what();
    }
  }

  std::vector<uint8_t> has_all(static_cast<size_t>(size_), reason.empty() ? 1 : 0);
  for (int peer : ranks_after(rank_, size_)) {
    exchange.receive(peer, reinterpret_cast<std::byte*>(&has_all[static_cast<size_t>(peer)]), 1);
    exchange.send(peer, reinterpret_cast<const std::byte*>(&has_all[own]), 1);
  }
  co_await exchange;
  if (segments_[own]) segments_[own]->close_file();  // everybody has mapped it
  const bool is_usable = std::ranges::all_of(has_all, [](uint8_t flag) { return flag == 1; });
  state_ = is_usable ? State::kUsable : State::kUnusable;
  if (is_usable) co_return;
  for (auto& segment : segments_) segment.reset();
  if (!reason.empty()) log_debug("ranks of this node share no memory, messages are used instead: {}", reason);
}

NodeWindow::Header& NodeWindow::header_of(int rank) const {
  return segments_[static_cast<size_t>(rank)]->header();
}

std::byte* NodeWindow::data_of(int rank) const { return segments_[static_cast<size_t>(rank)]->data(); }

bool NodeWindow::can_put(size_t chunk) const {
  const uint64_t before = number(rank_, chunk);
  if (before < kSlots) return true;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const uint64_t taken = header_of(peer).taken[rank_].value.load(std::memory_order_acquire);
    if (taken + kSlots <= before) return false;
  }
  return true;
}

void NodeWindow::mark_put(size_t chunk) {
  header_of(rank_).put.value.store(number(rank_, chunk) + 1, std::memory_order_release);
}

bool NodeWindow::has_put(int rank, size_t chunk) const {
  return header_of(rank).put.value.load(std::memory_order_acquire) > number(rank, chunk);
}

void NodeWindow::mark_taken(int rank, size_t chunk) {
  header_of(rank_).taken[rank].value.store(number(rank, chunk) + 1, std::memory_order_release);
}

}  // namespace tmd::comm
