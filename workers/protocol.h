#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "workers/batch_buffers.h"
#include "workers/batch_feed.h"
#include "workers/micro_batch.h"

// Messages between a trainer and its data worker:
//
//   trainer                                worker
//   plan                       ->
//                              <-          greeting [+ details]
//   credit, one per batch      ->
//                              <-          header, latents, text [+ details], one set per credit
//   close                      ->
//                              <-          blank sets for the credits that are left
//
// A credit says that the receives of one more micro-batch are posted; the plan carries the first `prefetch`
// of them. Every credit is answered by exactly one set, so whoever stops early leaves no message unmatched.
// Sizes of a set follow from the plan. After an error the worker answers nothing until it hears `close`.
// Errors: decode_* throw kInternal for words that encode_* cannot have made.
namespace tmd::workers {

/// One tag per purpose: messages of one purpose arrive in their order, whatever the others do.
enum MessageTag : int {
  kPlanTag = 1,
  kGreetingTag,
  kControlTag,
  kHeaderTag,
  kLatentsTag,
  kTextTag,
  kDetailsTag,
};

/// First message of a trainer.
struct PlanMessage {
  FeedPlan plan;
  int64_t prefetch = 1;  ///< micro-batches that may be under way at a time, >= 1
};
constexpr int64_t kPlanWords = 8;
at::Tensor encode_plan(const PlanMessage& message);  // -> [kPlanWords] int64
PlanMessage decode_plan(const at::Tensor& words);

/// First message of a worker.
struct Greeting {
  SampleShape shape;         ///< zeros when the details hold an error
  int64_t detail_bytes = 0;  ///< of the details that follow; 0: none
};
constexpr int64_t kGreetingWords = 7;
at::Tensor encode_greeting(const Greeting& greeting);  // -> [kGreetingWords] int64
Greeting decode_greeting(const at::Tensor& words);

/// Goes ahead of a micro-batch's tensors.
struct BatchHeader {
  MicroBatch place;
  std::vector<int64_t> samples;  ///< one per row; empty: the tensors are blank
  bool stop_requested = false;   ///< the worker's process was asked to stop
  int64_t detail_bytes = 0;      ///< of the details that follow; 0: none
};
/// Words of the header of a micro-batch of `rows`.
int64_t header_words(int64_t rows);
/// `samples` has place.rows entries or none.
at::Tensor encode_header(const BatchHeader& header);  // -> [header_words(place.rows)] int64
BatchHeader decode_header(const at::Tensor& words);

enum class Control : int64_t { kCredit = 1, kClose = 2 };
at::Tensor encode_control(Control control);  // -> [1] int64
Control decode_control(const at::Tensor& words);

/// What is rarely there and of any length.
struct Details {
  std::vector<BadSample> bad;
  std::optional<Error> error;  ///< arrives with its kind, text and hint

  bool is_empty() const { return bad.empty() && !error; }
};
at::Tensor encode_details(const Details& details);  // -> [bytes] uint8, CBOR
/// Throws nlohmann::json::exception for other bytes.
Details decode_details(const at::Tensor& bytes);

}  // namespace tmd::workers
