#include "comm/mpi_operation.h"

#include <algorithm>

#include "comm/mpi_progress_thread.h"

namespace tmd::comm {

MpiRequests& MpiOperation::requests() const { return thread_.requests(); }

void MpiOperation::wait() {
  if (!is_done()) {
    const MpiProgressThread::Waiter waiter(thread_);
    thread_.journal().mark_waiting(journal_entry_);
    state_.wait(kPending, std::memory_order_acquire);
    thread_.journal().mark_waiting(0);
  }
  if (failure_) throw *failure_;
}

void MpiOperation::finish(const std::optional<Error>& failure) {
  if (is_done()) return;
  thread_.journal().mark_finished(journal_entry_);
  group_.unfinished_operations.fetch_sub(1, std::memory_order_relaxed);
  failure_ = failure;
  state_.store(kDone, std::memory_order_release);
  state_.notify_all();
}

void MpiExchange::send(int peer, const std::byte* data, size_t bytes) {
  size_t offset = 0;
  do {
    const size_t part = std::min(bytes - offset, MpiRequests::kMaxMessageBytes);
    count_message();
    operation_.requests().send(operation_.group_, peer, operation_.tag_, data + offset, part, *this);
    offset += part;
  } while (offset < bytes);
}

void MpiExchange::receive(int peer, std::byte* data, size_t bytes) {
  size_t offset = 0;
  do {
    const size_t part = std::min(bytes - offset, MpiRequests::kMaxMessageBytes);
    count_message();
    operation_.requests().receive(operation_.group_, peer, operation_.tag_, data + offset, part, *this);
    offset += part;
  } while (offset < bytes);
}

void MpiExchange::count_message() {
  ++unfinished_;
  ++operation_.unfinished_messages_;
}

void MpiExchange::await_suspend(std::coroutine_handle<> flow) const {
  operation_.awaited_ = this;
  operation_.waiting_ = flow;
}

void MpiExchange::await_resume() const {
  if (operation_.has_failed_) throw *operation_.failure_;
}

void MpiExchange::on_request_done(const std::optional<Error>& failure) {
  --unfinished_;
  --operation_.unfinished_messages_;
  if (failure) {
    operation_.has_failed_ = true;
    operation_.finish(failure);
  }
  if (!operation_.awaited_ || !operation_.awaited_->await_ready()) return;
  operation_.awaited_ = nullptr;
  operation_.thread_.resume_soon(operation_.waiting_);
}

}  // namespace tmd::comm
