#include "orchestrator/write_test.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <fmt/format.h>
#include <limits>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/doctor_judge.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kFileBytes = 64 << 10;
constexpr uint64_t kLittleSpace = uint64_t{1} << 30;

std::vector<std::byte> content_of(int rank) {
  std::vector<std::byte> bytes(kFileBytes);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 7 + static_cast<size_t>(rank) * 31 + i / 251);
  return bytes;
}

fs::path file_of(const fs::path& folder, int rank) { return folder / fmt::format("rank_{:05d}", rank); }

// A folder that cannot be looked at counts as existing: what is tried in it says why.
fs::path nearest_existing(fs::path path) {
  std::error_code failure;
  while (!fs::exists(path, failure) && !failure && path.has_parent_path() && path != path.parent_path())
    path = path.parent_path();
  return path;
}

// What `action` throws, in words.
template <class Action>
std::string failure_of(Action action) {
  try {
    action();
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

void expect_content(const fs::path& path, int rank) {
  std::vector<std::byte> read(kFileBytes);
  File::open_to_read(path).read_at(0, read);
  check(read == content_of(rank), ErrorKind::kIo, path.string() + " does not read back as it was written");
}

void write_own(const fs::path& folder, int rank) {
  const fs::path final_path = file_of(folder, rank), temporary = fs::path(final_path.string() + ".tmp");
  File file = File::create(temporary);
  file.write_at(0, content_of(rank));
  file.sync();
  file.close();
  expect_content(temporary, rank);
  rename_durably(temporary, final_path);
}

// On rank 0: makes the folder that all write in.
std::string make_folder(const fs::path& below, fs::path& folder) {
  return failure_of([&] {
    check(fs::is_directory(below), ErrorKind::kIo, below.string() + " is no folder");
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    folder = below / fmt::format("tmd-write-test-{}-{:x}", ::getpid(), now);
    create_folders(folder);
  });
}

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// Adds the failure of every rank that brings one. Collective over: `world`.
void gather_failures(comm::Communicator& world, const std::string& own, std::vector<std::string>& all) {
  const std::string text =
      own.empty() ? "" : fmt::format("rank {} on {}: {}", world.rank(), host_name(), own);
  for (std::string& failure : comm::gather_strings(world, text)) {
    if (!failure.empty()) all.push_back(std::move(failure));
  }
}

uint64_t free_here(const fs::path& folder) {
  uint64_t free = std::numeric_limits<int64_t>::max();
  failure_of([&] { free = std::min(free, free_bytes(folder)); });  // which a rank that cannot write says
  return free;
}

}  // namespace

WriteTest test_writing(comm::Communicator& world, const fs::path& run) {
  WriteTest test;
  fs::path below, folder;
  std::string failure;
  if (world.rank() == 0) {
    failure = failure_of([&] { below = nearest_existing(plain_path(run)); });
    if (failure.empty()) failure = make_folder(below, folder);
  }
  test.folder = comm::broadcast_string(world, below.string(), 0);
  test.is_parent = comm::agree_any(world, world.rank() == 0 && below != plain_path(run));
  folder = comm::broadcast_string(world, folder.string(), 0);
  gather_failures(world, failure, test.failures);
  test.free_bytes =
      static_cast<uint64_t>(comm::agree_min(world, static_cast<int64_t>(free_here(test.folder))));
  if (!test.failures.empty()) return test;

  const auto start = Clock::now();
  failure = failure_of([&] { write_own(folder, world.rank()); });
  test.slowest_s = comm::agree_slowest(world, std::chrono::duration<double>(Clock::now() - start).count());
  gather_failures(world, failure, test.failures);
  failure.clear();
  if (world.rank() == 0) {
    for (int rank = 0; rank < world.size() && failure.empty() && test.failures.empty(); ++rank)
      failure = failure_of([&] { expect_content(file_of(folder, rank), rank); });
    const std::string left = failure_of([&] { remove_tree(folder); });
    if (failure.empty()) failure = left;
  }
  gather_failures(world, failure, test.failures);
  return test;
}

std::vector<Finding> judge_writing(const WriteTest& test, uint64_t checkpoint_bytes) {
  constexpr size_t kMost = 8;
  std::vector<Finding> findings;
  const std::string where =
      test.folder.string() + (test.is_parent ? " (the run folder is not there yet)" : "");
  for (size_t i = 0; i < std::min(kMost, test.failures.size()); ++i) {
    findings.push_back(
        error("storage", "write test", ErrorKind::kIo, test.failures[i],
              "name a folder that every rank may write in, on a file system that all hosts share"));
  }
  if (test.failures.size() > kMost)
    findings.back().text += fmt::format(" (and {} more ranks)", test.failures.size() - kMost);
  if (findings.empty()) {
    findings.push_back(fine(
        "storage", "write test",
        fmt::format(
            "every rank wrote, synced, read and renamed a file that rank 0 sees, in {:.0f} ms at most, in {}",
            test.slowest_s * 1e3, where)));
  }
  const std::string free = test.free_bytes >= std::numeric_limits<int64_t>::max()
                               ? "the file system does not tell"
                               : size_text(test.free_bytes) + " free";
  const std::string room = "free space at " + test.folder.string() + ", or set [checkpoint] keep_last lower";
  if (checkpoint_bytes == 0) {
    findings.push_back(test.free_bytes >= kLittleSpace ? fine("storage", "free space", free)
                                                       : warning("storage", "free space", free, room));
    return findings;
  }
  const std::string text = fmt::format("{}; a checkpoint takes {}", free, size_text(checkpoint_bytes));
  if (test.free_bytes < checkpoint_bytes) {
    findings.push_back(error("storage", "free space", ErrorKind::kIo, text, room));
  } else if (test.free_bytes / 2 < checkpoint_bytes) {
    findings.push_back(warning("storage", "free space",
                               text + ", and a run that has none yet is refused unless two have room", room));
  } else {
    findings.push_back(fine("storage", "free space", text));
  }
  return findings;
}

}  // namespace tmd::orchestrator
