#include "workers/remote_feed.h"

#include <algorithm>
#include <chrono>

#include <ATen/ATen.h>

#include "base/log.h"

namespace tmd::workers {

RemoteFeed::RemoteFeed(comm::Communicator& data, int worker, const FeedPlan& plan, int64_t prefetch)
    : data_(data),
      worker_(worker),
      plan_(plan),
      prefetch_(prefetch),
      greeting_(at::empty({kGreetingWords}, at::kLong)) {
  check_plan(plan);
  ensure(prefetch >= 1, "at least one micro-batch is under way");
  greeted_ = data_.recv(greeting_, worker_, kGreetingTag);
  sends_.push_back(data_.send(encode_plan({plan, prefetch}), worker_, kPlanTag));
}

RemoteFeed::~RemoteFeed() {
  if (!is_closed_) log_warning("the feed from data worker {} was dropped without close()", worker_);
}

void RemoteFeed::open() {
  if (is_open_) return;
  greeted_.wait();
  is_open_ = true;
  const Greeting greeting = decode_greeting(greeting_);
  if (greeting.detail_bytes > 0) {
    failure_ = receive_details(greeting.detail_bytes).error;
    ensure(failure_.has_value(), "a greeting's details hold an error");
    return;
  }
  buffers_.emplace(plan_.micro_batch, greeting.shape);
  const int64_t first_credits = std::min(prefetch_, count_micro_batches(plan_));
  for (int64_t i = 0; i < first_credits; ++i) post_receives();
}

void RemoteFeed::post_receives() {
  Arrival& arrival = arrivals_.emplace_back();
  arrival.place = micro_batch_at(plan_, posted_++);
  arrival.tensors = buffers_->take(arrival.place.rows);
  arrival.header = at::empty({header_words(arrival.place.rows)}, at::kLong);
  arrival.received = {data_.recv(arrival.header, worker_, kHeaderTag),
                      data_.recv(arrival.tensors.latents, worker_, kLatentsTag),
                      data_.recv(arrival.tensors.text, worker_, kTextTag)};
}

Batch RemoteFeed::finish(Arrival arrival) {
  for (comm::Work& work : arrival.received) work.wait();
  BatchHeader header = decode_header(arrival.header);
  ensure(header.place == arrival.place, "micro-batches arrive in the order of the plan");
  stop_requested_ |= header.stop_requested;
  Details details;
  if (header.detail_bytes > 0) details = receive_details(header.detail_bytes);
  if (details.error) failure_ = details.error;
  return {.iteration = arrival.place.iteration,
          .first_slot = arrival.place.first_slot,
          .latents = std::move(arrival.tensors.latents),
          .text = std::move(arrival.tensors.text),
          .samples = std::move(header.samples),
          .bad = std::move(details.bad)};
}

Details RemoteFeed::receive_details(int64_t bytes) {
  const at::Tensor text = at::empty({bytes}, at::kByte);
  data_.recv(text, worker_, kDetailsTag).wait();
  return decode_details(text);
}

void RemoteFeed::send(Control control) {
  while (!sends_.empty() && sends_.front().is_done()) {
    sends_.front().wait();  // throws what the send failed with
    sends_.pop_front();
  }
  sends_.push_back(data_.send(encode_control(control), worker_, kControlTag));
}

Batch RemoteFeed::next() {
  ensure(!is_closed_, "no batch is taken from a closed feed");
  const auto begin = std::chrono::steady_clock::now();
  open();
  if (failure_) throw *failure_;
  ensure(taken_ < count_micro_batches(plan_), "no batch is taken beyond the plan's end");
  Arrival arrival = std::move(arrivals_.front());
  arrivals_.pop_front();
  Batch batch = finish(std::move(arrival));
  if (failure_) throw *failure_;
  ++taken_;
  if (posted_ < count_micro_batches(plan_)) {
    post_receives();
    send(Control::kCredit);
  }
  waited_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return batch;
}

void RemoteFeed::close() {
  if (is_closed_) return;
  open();
  send(Control::kClose);
  for (Arrival& arrival : arrivals_) finish(std::move(arrival));
  arrivals_.clear();
  for (comm::Work& work : sends_) work.wait();
  sends_.clear();
  is_closed_ = true;
}

}  // namespace tmd::workers
