#include "comm/journal.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <spdlog/fmt/chrono.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/file.h"

namespace tmd::comm {
namespace {

constexpr char kMagic[8] = {'t', 'm', 'd', 'j', 'r', 'n', 'l', '2'};

int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
}

template <size_t N>
void store_text(char (&to)[N], std::string_view text) {
  const size_t length = std::min(text.size(), N - 1);
  std::memcpy(to, text.data(), length);
  std::memset(to + length, 0, N - length);
}

template <size_t N>
std::string load_text(const char (&from)[N]) {
  return std::string(from, strnlen(from, N));
}

double seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

// The file is one Header and then `capacity` Records, in the byte order of the machine. Operation number s
// (1, 2, ...) is record (s - 1) % capacity. A record whose two sequence numbers are
// not alike is being written.

struct Journal::Header {
  char magic[8];
  uint32_t header_bytes;
  uint32_t record_bytes;
  uint64_t capacity;
  int64_t pid;
  int64_t rank;
  std::atomic<uint64_t> entered;
  std::atomic<uint64_t> awaited;
  std::atomic<int64_t> waiting_since_ns;  // 0 = not
  char phase[40];
  char host[64];
};

struct Journal::Record {
  std::atomic<uint64_t> sequence;
  int64_t elements;
  int64_t queued_ns;
  std::atomic<int64_t> started_ns;
  std::atomic<int64_t> finished_ns;
  uint32_t kind;
  int32_t peer;
  int32_t tag;
  char communicator[24];
  char phase[40];
  std::atomic<uint64_t> sequence_again;
};

/// A mapping that is shared with a file or with nobody.
class Journal::Memory {
 public:
  Memory(size_t capacity, int descriptor)
      : size_bytes_(size_for(capacity)),
        bytes_(::mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE,
                      descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, descriptor, 0)) {
    check(bytes_ != MAP_FAILED, ErrorKind::kIo,
          fmt::format("cannot map {} bytes for the journal: {}", size_bytes_, std::strerror(errno)));
  }
  ~Memory() { ::munmap(bytes_, size_bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  static size_t size_for(size_t capacity) { return sizeof(Header) + capacity * sizeof(Record); }

  Header& header() { return *static_cast<Header*>(bytes_); }
  Record* records() { return reinterpret_cast<Record*>(data() + sizeof(Header)); }
  std::byte* data() { return static_cast<std::byte*>(bytes_); }
  size_t size_bytes() const { return size_bytes_; }

 private:
  size_t size_bytes_;
  void* bytes_;
};

Journal::Journal(size_t capacity) {
  check(capacity > 0, ErrorKind::kInternal, "a journal needs room for one entry");
  memory_ = std::make_unique<Memory>(capacity, -1);
  Header& header = memory_->header();
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.header_bytes = sizeof(Header);
  header.record_bytes = sizeof(Record);
  header.capacity = capacity;
  header.pid = ::getpid();
  header.rank = -1;
  char host[sizeof(header.host)] = {};
  ::gethostname(host, sizeof(host) - 1);
  store_text(header.host, host);
}

Journal::~Journal() = default;

void Journal::move_to_file(const std::filesystem::path& file, int rank) {
  const auto fail = [&](int reason) {
    throw Error(ErrorKind::kIo,
                fmt::format("cannot make the journal {}: {}", file.string(), std::strerror(reason)));
  };
  UniqueHandle<int, -1, close_descriptor> descriptor(
      ::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!descriptor.is_valid()) fail(errno);
  const std::lock_guard lock(mutex_);
  const size_t capacity = memory_->header().capacity;
  // All blocks now: a write into a mapping on a full disk would be a signal instead of an error.
  const int reason = ::posix_fallocate(descriptor.get(), 0, static_cast<off_t>(Memory::size_for(capacity)));
  if (reason != 0) fail(reason);
  auto moved = std::make_unique<Memory>(capacity, descriptor.get());
  memory_->header().rank = rank;
  std::memcpy(moved->data(), memory_->data(), memory_->size_bytes());
  memory_ = std::move(moved);
}

void Journal::set_phase(std::string_view phase) {
  const std::lock_guard lock(mutex_);
  store_text(memory_->header().phase, phase);
}

uint64_t Journal::enter(OperationKind kind, std::string_view communicator, int64_t elements, int peer,
                        int tag) {
  const std::lock_guard lock(mutex_);
  Header& header = memory_->header();
  const uint64_t sequence = header.entered.load(std::memory_order_relaxed) + 1;
  Record& record = memory_->records()[(sequence - 1) % header.capacity];
  record.sequence.exchange(0, std::memory_order_acq_rel);
  record.sequence_again.exchange(0, std::memory_order_acq_rel);
  record.elements = elements;
  record.queued_ns = now_ns();
  record.started_ns.store(0, std::memory_order_relaxed);
  record.finished_ns.store(0, std::memory_order_relaxed);
  record.kind = static_cast<uint32_t>(kind);
  record.peer = peer;
  record.tag = tag;
  store_text(record.communicator, communicator);
  std::memcpy(record.phase, header.phase, sizeof(record.phase));
  record.sequence_again.store(sequence, std::memory_order_release);
  record.sequence.store(sequence, std::memory_order_release);
  header.entered.store(sequence, std::memory_order_release);
  return sequence;
}

Journal::Record* Journal::record_of(uint64_t sequence) {
  Record& record = memory_->records()[(sequence - 1) % memory_->header().capacity];
  return record.sequence.load(std::memory_order_relaxed) == sequence ? &record : nullptr;
}

void Journal::mark_started(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  if (Record* record = record_of(sequence)) record->started_ns.store(now_ns(), std::memory_order_relaxed);
}

void Journal::mark_finished(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  if (Record* record = record_of(sequence)) record->finished_ns.store(now_ns(), std::memory_order_relaxed);
}

void Journal::store_waiting(uint64_t sequence) {
  Header& header = memory_->header();
  header.awaited.store(sequence, std::memory_order_relaxed);
  header.waiting_since_ns.store(sequence == 0 ? 0 : now_ns(), std::memory_order_relaxed);
}

void Journal::mark_waiting(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  store_waiting(sequence);
}

void Journal::mark_waiting_on_device(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  if (memory_->header().waiting_since_ns.load(std::memory_order_relaxed) == 0) store_waiting(sequence);
}

void Journal::unmark_waiting_on_device(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  if (memory_->header().awaited.load(std::memory_order_relaxed) == sequence) store_waiting(0);
}

double Journal::waiting_since_s() const {
  const std::lock_guard lock(mutex_);
  return seconds(memory_->header().waiting_since_ns.load(std::memory_order_relaxed));
}

JournalContent Journal::content() const {
  const std::lock_guard lock(mutex_);
  return parse(memory_->data(), memory_->size_bytes(), "the journal of this process");
}

JournalContent Journal::parse(const std::byte* bytes, size_t size_bytes, const std::string& source) {
  const auto* header = reinterpret_cast<const Header*>(bytes);
  const bool is_journal =
      size_bytes >= sizeof(Header) && std::memcmp(header->magic, kMagic, sizeof(kMagic)) == 0 &&
      header->header_bytes == sizeof(Header) && header->record_bytes == sizeof(Record) &&
      header->capacity > 0 && header->capacity == (size_bytes - sizeof(Header)) / sizeof(Record);
  check(is_journal, ErrorKind::kData,
        fmt::format("{} ({} bytes) is no journal of this version", source, size_bytes));
  JournalContent content{.rank = static_cast<int>(header->rank),
                         .pid = header->pid,
                         .host = load_text(header->host),
                         .phase = load_text(header->phase),
                         .awaited = header->awaited.load(std::memory_order_relaxed),
                         .entered = header->entered.load(std::memory_order_acquire),
                         .entries = {}};
  const auto* records = reinterpret_cast<const Record*>(bytes + sizeof(Header));
  const uint64_t kept = std::min<uint64_t>(content.entered, header->capacity);
  for (uint64_t sequence = content.entered - kept + 1; sequence <= content.entered; ++sequence) {
    const Record& record = records[(sequence - 1) % header->capacity];
    if (record.sequence.load() != sequence || record.sequence_again.load() != sequence) continue;
    content.entries.push_back({.sequence = sequence,
                               .kind = static_cast<OperationKind>(record.kind),
                               .communicator = load_text(record.communicator),
                               .elements = record.elements,
                               .peer = record.peer,
                               .tag = record.tag,
                               .phase = load_text(record.phase),
                               .queued_s = seconds(record.queued_ns),
                               .started_s = seconds(record.started_ns.load(std::memory_order_relaxed)),
                               .finished_s = seconds(record.finished_ns.load(std::memory_order_relaxed))});
  }
  return content;
}

JournalContent read_journal(const std::filesystem::path& file) {
  const File opened = File::open_to_read(file);
  std::vector<std::byte> bytes(opened.size_bytes());
  opened.read_at(0, bytes);
  return Journal::parse(bytes.data(), bytes.size(), file.string());
}

std::string_view name(OperationKind kind) {
  switch (kind) {
    case OperationKind::kAllGather:
      return "all_gather";
    case OperationKind::kReduceScatter:
      return "reduce_scatter";
    case OperationKind::kAllReduce:
      return "all_reduce";
    case OperationKind::kBroadcast:
      return "broadcast";
    case OperationKind::kAllToAll:
      return "all_to_all";
    case OperationKind::kSend:
      return "send";
    case OperationKind::kRecv:
      return "recv";
    case OperationKind::kBarrier:
      return "barrier";
    case OperationKind::kSplit:
      return "split";
    case OperationKind::kClose:
      return "close";
  }
  return "unknown";
}

namespace {

std::string clock_text(double time_s) {
  const auto whole = static_cast<std::time_t>(time_s);
  const int ms = static_cast<int>((time_s - static_cast<double>(whole)) * 1e3);
  return fmt::format("{:%H:%M:%S}.{:03}", fmt::localtime(whole), ms);
}

std::string state_text(const JournalEntry& entry) {
  if (entry.started_s == 0) return fmt::format("queued {}, NOT STARTED", clock_text(entry.queued_s));
  if (entry.finished_s == 0) return fmt::format("started {}, NOT FINISHED", clock_text(entry.started_s));
  return fmt::format("started {}, took {:.3f} ms", clock_text(entry.started_s),
                     (entry.finished_s - entry.started_s) * 1e3);
}

std::string line_of(const JournalEntry& entry) {
  std::string line = fmt::format("  #{} {} on '{}'", entry.sequence, name(entry.kind), entry.communicator);
  if (entry.peer >= 0) line += fmt::format(", peer {}", entry.peer);
  if (entry.tag >= 0) line += fmt::format(", tag {}", entry.tag);
  return line + fmt::format(", {} elements, in '{}': {}\n", entry.elements, entry.phase, state_text(entry));
}

}  // namespace

std::string to_text(const JournalContent& journal, size_t count) {
  std::string text = fmt::format("rank {} (process {}) in '{}', {} operations so far\n", journal.rank,
                                 journal.pid, journal.phase, journal.entered);
  const size_t skipped = journal.entries.size() - std::min(count, journal.entries.size());
  for (size_t i = skipped; i < journal.entries.size(); ++i) text += line_of(journal.entries[i]);
  return text;
}

}  // namespace tmd::comm
