#include "comm/nccl_launch_thread.h"

#include <algorithm>
#include <bit>
#include <sched.h>

#include <spdlog/fmt/fmt.h>

#include "base/log.h"
#include "comm/service_thread.h"

namespace tmd::comm {
namespace {

using std::chrono::microseconds;

// As in mpi_progress_thread.cpp, for the same reasons.
constexpr microseconds kSpin{50};
constexpr microseconds kShortestNap{50};
constexpr microseconds kLongestNap{1000};

// Long for a device, short for a watchdog.
constexpr std::chrono::seconds kLate{1};

constexpr size_t kEvents = 128;
constexpr size_t kSmallestPinned = 64 * 1024;

microseconds nap_after(std::chrono::steady_clock::duration idle) {
  return std::clamp(std::chrono::duration_cast<microseconds>(idle / 8), kShortestNap, kLongestNap);
}

}  // namespace

NcclLaunchThread::NcclLaunchThread(Journal& journal, DeviceStreams& streams, Options options)
    : journal_(journal), streams_(streams), options_(options), thread_([this] { run_thread(); }) {
  try {
    initialised_.get_future().get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

NcclLaunchThread::~NcclLaunchThread() {
  if (thread_.joinable()) thread_.join();
}

void NcclLaunchThread::run_thread() {
  begin_service_thread("tmd-nccl");
  try {
    cuda::set_device(options_.device);
    events_ = std::make_shared<EventPool>(options_.device, kEvents);
    copies_ = cuda::make_stream(cuda::Priority::kNormal);
  } catch (...) {
    initialised_.set_exception(std::current_exception());
    return;
  }
  initialised_.set_value();
  loop();
  give_up();
  ended_.set_value();
}

void NcclLaunchThread::loop() {
  while (true) {
    if (must_abort_.load(std::memory_order_acquire) && !failure())
      fail(Error(ErrorKind::kPeerLost, "communication of the devices was aborted"));
    if (has_news_.exchange(false, std::memory_order_acquire)) {
      last_move_ = Clock::now();
      const std::lock_guard lock(mutex_);
      std::swap(queue_, starting_);
    }
    if (must_end()) return;
    const bool has_started = start_queued();
    const bool has_moved = ask_running();
    ask_groups();
    mark_late();
    rest(has_started || has_moved);
  }
}

bool NcclLaunchThread::start_queued() {
  if (starting_.empty()) return false;
  for (Command& command : starting_) {
    if (command.task) {
      run_task(command);
    } else {
      launch(command.operation);
    }
  }
  starting_.clear();
  return true;
}

void NcclLaunchThread::launch(const std::shared_ptr<NcclOperation>& operation) {
  if (const std::optional<Error> failed = failure()) {
    operation->finish(failed);
    operation->drop_tensors();
    return;
  }
  journal_.mark_started(operation->journal_entry());
  operation->launched_at = Clock::now();
  running_.push_back(operation);
  try {
    operation->launch();
  } catch (const Error& e) {
    fail(e);
  } catch (const std::exception& e) {
    fail(Error(ErrorKind::kInternal, std::string("the launch of an operation failed: ") + e.what()));
  }
}

void NcclLaunchThread::run_task(const Command& command) {
  std::optional<Error> failed = failure();
  if (!failed) {
    try {
      (*command.task)();
    } catch (const Error& e) {
      failed = e;
    } catch (const std::exception& e) {
      failed = Error(ErrorKind::kInternal, e.what());
    }
    if (failed && failed->kind() == ErrorKind::kPeerLost && !failure()) fail(*failed);
  }
  command.ended->set_value(failed);
}

// Says whether the operation is to be forgotten; `fatal` is what the device itself has failed with.
bool NcclLaunchThread::is_over(NcclOperation& operation, std::optional<Error>& fatal) {
  NcclChannel& channel = operation.channel();
  try {
    if (operation.is_finished()) {  // it has failed
      if (operation.is_under_way()) return false;
    } else {
      if (operation.is_collective() && channel.holds_up_collectives) return false;
      if (!operation.advance()) {
        if (operation.is_collective()) channel.holds_up_collectives = true;
        return false;
      }
      operation.finish(std::nullopt);
    }
  } catch (const std::exception& e) {
    const auto* known = dynamic_cast<const Error*>(&e);
    const Error failed = known ? *known : Error(ErrorKind::kInternal, e.what());
    if (operation.is_collective()) {
      fatal = failed;
      return false;
    }
    operation.finish(failed);
    if (operation.is_under_way()) return false;
  }
  operation.drop_tensors();
  if (operation.journal_entry() == late_) {
    journal_.unmark_waiting_on_device(late_);
    late_ = 0;
  }
  return true;
}

bool NcclLaunchThread::ask_running() {
  if (running_.empty()) return false;
  for (const auto& channel : channels_) channel->holds_up_collectives = channel->holds_up_sends = false;
  std::optional<Error> fatal;
  const size_t over = std::erase_if(
      running_, [&](const std::shared_ptr<NcclOperation>& operation) { return is_over(*operation, fatal); });
  if (fatal && !failure()) fail(*fatal);
  return over > 0;
}

void NcclLaunchThread::ask_groups() {
  if (running_.empty()) return;
  for (const auto& channel : channels_) {
    if (!channel->group) continue;
    if (const std::optional<Error> failed = channel->group->failure()) return fail(*failed);
  }
}

void NcclLaunchThread::mark_late() {
  const auto oldest = std::ranges::find_if(running_, [](const auto& operation) {
    return operation->is_collective() && !operation->is_finished();
  });
  if (oldest == running_.end() || Clock::now() - (*oldest)->launched_at < kLate) return;
  late_ = (*oldest)->journal_entry();
  journal_.mark_waiting_on_device(late_);
}

// All communicators share connections and memory (NcclOptions::shares_resources), and a run cannot go on
// without one of them: they end together.
void NcclLaunchThread::fail(const Error& failure) {
  {
    const std::lock_guard lock(mutex_);
    failure_ = failure;
  }
  has_failed_.store(true, std::memory_order_release);
  std::vector<NcclGroup*> groups;
  for (const auto& channel : channels_) {
    if (channel->group) groups.push_back(channel->group.get());
  }
  // The device lets go of the buffers first; those who wait go on after that.
  if (const std::optional<Error> complaint = NcclGroup::abort(groups))
    log_warning("aborting {} communicators of the device: {}", groups.size(), complaint->what());
  for (const auto& channel : channels_) channel->group.reset();
  open_communicators_ = 0;
  for (const auto& operation : running_) operation->finish(failure);
  {
    const std::lock_guard lock(mutex_);
    has_aborted_ = true;
  }
  changed_.notify_all();
}

void NcclLaunchThread::pause(const char* call, const std::string& group, Clock::duration waited) {
  const auto give_up = [&](const std::string& why) {
    throw Error(ErrorKind::kPeerLost, fmt::format("{} on communicator '{}' {}", call, group, why));
  };
  if (must_abort_.load(std::memory_order_acquire)) give_up("was aborted");
  if (must_leave_.load(std::memory_order_acquire)) give_up("was left");
  if (waited > options_.patience)
    give_up(fmt::format("has been in progress for {:.0f} s", options_.patience.count()));
  if (waited < kSpin) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(nap_after(waited));
  }
}

void NcclLaunchThread::add(std::shared_ptr<NcclChannel> channel) {
  channels_.push_back(std::move(channel));
  open_communicators_.fetch_add(1);
}

void NcclLaunchThread::close(const std::shared_ptr<NcclChannel>& channel) {
  channel->group->finalize();
  channel->group.reset();
  channel->stream.reset();
  std::erase(channels_, channel);
  open_communicators_.fetch_sub(1);
}

void NcclLaunchThread::drain() {
  const Clock::time_point begin = Clock::now();
  const auto is_open = [](const auto& operation) {
    return operation->is_on_stream() && !operation->is_finished();
  };
  while (std::ranges::any_of(running_, is_open)) {
    if (!ask_running()) pause("the end of earlier operations", "all", Clock::now() - begin);
    ask_groups();
  }
  if (const std::optional<Error> failed = failure()) throw *failed;
}

cuda::PinnedMemory NcclLaunchThread::borrow_pinned(size_t bytes) {
  const auto fits = [bytes](const cuda::PinnedMemory& memory) { return memory.size() >= bytes; };
  const auto found = std::ranges::find_if(pinned_, fits);
  if (found == pinned_.end()) return cuda::PinnedMemory(std::bit_ceil(std::max(bytes, kSmallestPinned)));
  cuda::PinnedMemory memory = std::move(*found);
  pinned_.erase(found);
  return memory;
}

bool NcclLaunchThread::must_end() {
  if (!must_leave_.load(std::memory_order_acquire)) return false;
  const std::lock_guard lock(mutex_);
  return ends_ && (running_.empty() || Clock::now() >= leaves_at_);
}

// What was not closed is leaked: freeing it would need the other ranks. So is what somebody may still use.
void NcclLaunchThread::give_up() {
  if (!running_.empty()) (void)new std::deque<std::shared_ptr<NcclOperation>>(std::move(running_));
  for (const auto& channel : channels_) {
    if (!channel->group) continue;  // aborted
    (void)channel->group.release();
    (void)channel->stream.release();
  }
  pinned_.clear();
}

void NcclLaunchThread::rest(bool has_moved) {
  const Clock::time_point now = Clock::now();
  if (has_moved) {
    last_move_ = now;
    return;
  }
  if (now - last_move_ < kSpin) {
    sched_yield();
    return;
  }
  std::unique_lock lock(mutex_);
  const auto has_news = [this] { return has_news_.load(std::memory_order_acquire); };
  if (running_.empty()) {
    changed_.wait(lock, has_news);
  } else {
    changed_.wait_for(lock, nap_after(now - last_move_), has_news);
  }
}

void NcclLaunchThread::wake() {
  {
    const std::lock_guard lock(mutex_);
    has_news_.store(true, std::memory_order_release);
  }
  changed_.notify_all();
}

void NcclLaunchThread::start(std::shared_ptr<NcclOperation> operation) {
  std::optional<Error> failed;
  {
    const std::lock_guard lock(mutex_);
    failed = failure_;
    if (!failed) queue_.push_back({.operation = operation});
  }
  if (failed) {
    operation->finish(failed);
  } else {
    wake();
  }
}

void NcclLaunchThread::run(uint64_t entry, const std::function<void()>& task) {
  std::promise<std::optional<Error>> ended;
  std::future<std::optional<Error>> end = ended.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (failure_) throw *failure_;
    queue_.push_back({.operation = nullptr, .task = &task, .ended = &ended});
  }
  wake();
  journal_.mark_started(entry);
  journal_.mark_waiting(entry);
  end.wait();
  journal_.mark_waiting(0);
  journal_.mark_finished(entry);
  if (const std::optional<Error> failed = end.get()) throw *failed;
}

bool NcclLaunchThread::abort(std::chrono::milliseconds timeout) noexcept {
  must_abort_.store(true, std::memory_order_release);
  wake();
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return has_aborted_; });
}

std::optional<Error> NcclLaunchThread::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool NcclLaunchThread::leave(std::chrono::milliseconds timeout) {
  must_leave_.store(true, std::memory_order_release);
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    leaves_at_ = Clock::now() + timeout / 2;
  }
  wake();
  if (end_reached_.wait_for(timeout) == std::future_status::ready) {
    thread_.join();
    return true;
  }
  thread_.detach();
  return false;
}

}  // namespace tmd::comm
