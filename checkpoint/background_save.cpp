#include "checkpoint/background_save.h"

#include <atomic>
#include <exception>
#include <new>
#include <pthread.h>
#include <sys/resource.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include "base/error.h"
#include "base/folder.h"
#include "checkpoint/commit.h"
#include "checkpoint/part_writer.h"
#include "comm/agree.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;

namespace {

// Of the threads that write: training goes first. About a tenth of a core is left to them where all are busy.
constexpr int kNice = 10;

}  // namespace

class BackgroundSave::Job {
 public:
  explicit Job(std::function<void()> work)
      : thread_([this, work = std::move(work)] {
          pthread_setname_np(pthread_self(), "tmd-save");
          setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
          try {
            work();
          } catch (const std::bad_alloc&) {
            failure_ =
                std::make_exception_ptr(Error(ErrorKind::kIo, "no memory for the copies of a checkpoint"));
          } catch (...) {
            failure_ = std::current_exception();
          }
          is_done_.store(true, std::memory_order_release);
          is_done_.notify_all();
        }) {}
  ~Job() { thread_.join(); }

  bool is_done() const { return is_done_.load(std::memory_order_acquire); }
  /// Waits for the end; throws what the work has thrown.
  void wait() {
    is_done_.wait(false, std::memory_order_acquire);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::exception_ptr failure_;
  std::atomic<bool> is_done_ = false;
  std::thread thread_;
};

BackgroundSave::BackgroundSave(comm::Communicator& comm, fs::path folder, Description description,
                               std::vector<LocalPart> parts, SaveHooks hooks,
                               std::vector<std::string> changing)
    : comm_(comm),
      folder_(std::move(folder)),
      description_(std::move(description)),
      hooks_(std::move(hooks)) {
  double total_bytes = 0;  // exact below 2^53 bytes
  for (const LocalPart& part : parts) total_bytes += static_cast<double>(part.bytes.size());
  comm::sum(comm, {&total_bytes, 1});
  try {
    comm::run_agreed(comm, [&] {
      ensure(description_.mesh.ranks() == comm.size(),
             "checkpoint: the mesh has as many ranks as the communicator");
      writer_ = std::make_unique<PartWriter>(comm.rank(), std::move(parts));
      if (comm.rank() == 0) prepare_partial(folder_, static_cast<uint64_t>(total_bytes));
    });
    // Not before the folder is there.
    comm::run_agreed(comm, [&] {
      start([this, changing = std::move(changing)] {
        if (hooks_.before_write) hooks_.before_write();
        writer_->write(partial_folder(folder_), changing);
      });
    });
  } catch (const Error&) {
    if (writer_) writer_->cancel();
    job_.reset();
    remove_partial();
    throw;
  }
}

BackgroundSave::~BackgroundSave() {
  if (writer_) writer_->cancel();
}

void BackgroundSave::start(std::function<void()> work) {
  try {
    job_ = std::make_unique<Job>(std::move(work));
  } catch (const std::system_error& e) {
    throw Error(ErrorKind::kIo, std::string("no thread to write a checkpoint: ") + e.what());
  }
}

void BackgroundSave::keep(const std::string& group) {
  if (phase_ == Phase::kWriting) writer_->keep(group);
}

bool BackgroundSave::is_idle() const { return !job_ || job_->is_done(); }

bool BackgroundSave::advance() {
  try {
    comm::run_agreed(comm_, [this] {
      if (job_) job_->wait();
    });
    job_.reset();
    if (phase_ == Phase::kWriting) {
      const std::vector<std::string> texts =
          comm::gather_strings_to(comm_, 0, parts_to_text(writer_->written()));
      phase_ = Phase::kCommitting;
      if (comm_.rank() == 0) {
        start([this, texts] {
          if (hooks_.before_commit) hooks_.before_commit();
          commit(folder_, description_, texts);
          if (hooks_.after_commit) hooks_.after_commit();
        });
      }
    } else {
      phase_ = Phase::kDone;
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kPeerLost) abandon();  // else there may be nobody to wait for
    throw;
  }
  return phase_ == Phase::kDone;
}

void BackgroundSave::abandon() {
  writer_->cancel();
  job_.reset();
  comm_.barrier();  // nobody writes there any more
  remove_partial();
}

void BackgroundSave::remove_partial() const {
  std::error_code ignored;
  if (comm_.rank() == 0) fs::remove_all(partial_folder(folder_), ignored);
}

void BackgroundSave::finish() {
  while (phase_ != Phase::kDone) advance();
}

}  // namespace tmd::checkpoint
