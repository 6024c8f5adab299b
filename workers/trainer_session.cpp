#include "workers/trainer_session.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::workers {
namespace {

// The exception in flight as what the trainer will throw.
Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return Error(ErrorKind::kInternal, std::string("reading a batch failed: ") + error.what());
  }
}

}  // namespace

TrainerSession::TrainerSession(comm::Communicator& data, data::DataSet& data_set, int trainer)
    : data_(data),
      data_set_(data_set),
      trainer_(trainer),
      message_(at::empty({kPlanWords}, at::kLong)),
      arriving_(data.recv(message_, trainer, kPlanTag)) {}

bool TrainerSession::serve(bool stop_requested) {
  if (!has_started_) return start();
  bool has_progressed = forget_sent();
  has_progressed |= take_control();
  if (is_closing_) {
    has_progressed |= credits_ > 0;
    while (credits_ > 0) send_blank(stop_requested);
  } else if (credits_ > 0 && !has_failed_) {
    read_and_send(stop_requested);
    has_progressed = true;
  }
  return has_progressed;
}

bool TrainerSession::start() {
  if (!arriving_.is_done()) return false;
  arriving_.wait();  // throws what the receive failed with
  has_started_ = true;
  const PlanMessage message = decode_plan(message_);
  Greeting greeting;
  at::Tensor details;
  try {
    reader_.emplace(data_set_, message.plan);
    greeting.shape = reader_->shape();
    credits_ = std::min(message.prefetch, reader_->micro_batches());
  } catch (...) {
    has_failed_ = true;
    details = encode_details({.bad = {}, .error = current_error()});
    greeting.detail_bytes = details.numel();
  }
  Answer& answer = answers_.emplace_back();
  answer[0] = data_.send(encode_greeting(greeting), trainer_, kGreetingTag);
  if (details.defined()) answer[1] = data_.send(details, trainer_, kDetailsTag);
  message_ = at::empty({1}, at::kLong);
  arriving_ = data_.recv(message_, trainer_, kControlTag);
  return true;
}

bool TrainerSession::forget_sent() {
  const size_t before = answers_.size();
  const auto is_sent = [](Answer& answer) {
    return std::ranges::all_of(answer, [](comm::Work& work) { return work.is_done(); });
  };
  while (!answers_.empty() && is_sent(answers_.front())) {
    for (comm::Work& work : answers_.front()) work.wait();  // throws what the send failed with
    answers_.pop_front();
  }
  return answers_.size() < before;
}

bool TrainerSession::take_control() {
  bool has_taken = false;
  while (!is_closing_ && arriving_.is_done()) {
    arriving_.wait();
    has_taken = true;
    if (decode_control(message_) == Control::kClose) {
      is_closing_ = true;
      arriving_ = comm::Work();
    } else {
      ++credits_;
      arriving_ = data_.recv(message_, trainer_, kControlTag);
    }
  }
  return has_taken;
}

void TrainerSession::read_and_send(bool stop_requested) {
  Batch batch;
  Details details;
  try {
    batch = reader_->read(next_);
    details.bad = batch.bad;
  } catch (...) {
    has_failed_ = true;
    batch = reader_->blank(next_);
    details.error = current_error();
  }
  send(batch, details, stop_requested);
}

void TrainerSession::send_blank(bool stop_requested) { send(reader_->blank(next_), {}, stop_requested); }

void TrainerSession::send(const Batch& batch, const Details& details, bool stop_requested) {
  BatchHeader header{.place = micro_batch_at(reader_->plan(), next_++),
                     .samples = batch.samples,
                     .stop_requested = stop_requested,
                     .detail_bytes = 0};
  at::Tensor bytes;
  if (!details.is_empty()) {
    bytes = encode_details(details);
    header.detail_bytes = bytes.numel();
  }
  Answer& answer = answers_.emplace_back();
  answer[0] = data_.send(encode_header(header), trainer_, kHeaderTag);
  answer[1] = data_.send(batch.latents, trainer_, kLatentsTag);
  answer[2] = data_.send(batch.text, trainer_, kTextTag);
  if (bytes.defined()) answer[3] = data_.send(bytes, trainer_, kDetailsTag);
  --credits_;
}

}  // namespace tmd::workers
