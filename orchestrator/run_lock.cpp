#include "orchestrator/run_lock.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <thread>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

namespace tmd::orchestrator {
namespace {

std::string holder_of(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t size = pread(descriptor, text.data(), text.size() - 1, 0);
  return size > 0 ? std::string(text.data(), static_cast<size_t>(size)) : std::string("another process");
}

std::string self() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const char* job = std::getenv("SLURM_JOB_ID");
  return fmt::format("process {} on host {}{}", getpid(), host.data(),
                     job ? fmt::format(", Slurm job {}", job) : "");
}

// A job that Slurm starts again after it lost a host: the lock of that host may outlive it on a network file
// system.
constexpr int kPatienceS = 120;

bool is_of_this_job(const std::string& holder) {
  const char* job = std::getenv("SLURM_JOB_ID");
  return job && holder.ends_with(fmt::format(", Slurm job {}", job));
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "in_use";
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  check(descriptor >= 0, ErrorKind::kIo,
        fmt::format("cannot open {}: {}", path.string(), std::strerror(errno)));
  descriptor_ = UniqueHandle<int, -1, close_descriptor>(descriptor);
  for (int waited_s = 0; flock(descriptor, LOCK_EX | LOCK_NB) != 0; ++waited_s) {
    if (errno != EWOULDBLOCK) {
      log_warning("{} knows no locks ({}): nothing keeps a second job out of it", folder.string(),
                  std::strerror(errno));
      break;
    }
    const std::string holder = holder_of(descriptor);
    const bool is_ours = is_of_this_job(holder);  // starting it again may help then
    check(is_ours && waited_s < kPatienceS, is_ours ? ErrorKind::kPeerLost : ErrorKind::kConfig,
          fmt::format("{} is in use by {}", folder.string(), holder),
          "wait for its end, stop it, or give another folder");
    if (waited_s == 0)
      log_warning("{} is still locked by an earlier start of this job: waiting", folder.string());
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  const std::string text = self();
  const bool is_written = ftruncate(descriptor, 0) == 0 && pwrite(descriptor, text.data(), text.size(), 0) ==
                                                               static_cast<ssize_t>(text.size());
  if (!is_written) log_warning("{} cannot be written: {}", path.string(), std::strerror(errno));
}

}  // namespace tmd::orchestrator
