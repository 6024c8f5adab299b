#include "workers/protocol.h"

#include <bit>
#include <span>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

namespace tmd::workers {
namespace {

at::Tensor words_tensor(std::span<const int64_t> words) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(words.size())}, at::kLong);
  std::ranges::copy(words, tensor.mutable_data_ptr<int64_t>());
  return tensor;
}

std::span<const int64_t> words_of(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<int64_t>(), static_cast<size_t>(tensor.numel())};
}

constexpr int64_t kHeaderFixedWords = 6;

}  // namespace

at::Tensor encode_plan(const PlanMessage& message) {
  const FeedPlan& plan = message.plan;
  return words_tensor(std::array<int64_t, kPlanWords>{std::bit_cast<int64_t>(plan.seed), plan.first_iteration,
                                                      plan.last_iteration, plan.global_batch, plan.first_slot,
                                                      plan.slots, plan.micro_batch, message.prefetch});
}

PlanMessage decode_plan(const at::Tensor& words) {
  ensure(words.numel() == kPlanWords, "a plan has its words");
  const auto w = words_of(words);
  return {.plan = {.seed = std::bit_cast<uint64_t>(w[0]),
                   .first_iteration = w[1],
                   .last_iteration = w[2],
                   .global_batch = w[3],
                   .first_slot = w[4],
                   .slots = w[5],
                   .micro_batch = w[6]},
          .prefetch = w[7]};
}

at::Tensor encode_greeting(const Greeting& greeting) {
  const auto& [c, t, h, w] = greeting.shape.latent;
  const auto& [s, e] = greeting.shape.text;
  return words_tensor(std::array<int64_t, kGreetingWords>{c, t, h, w, s, e, greeting.detail_bytes});
}

Greeting decode_greeting(const at::Tensor& words) {
  ensure(words.numel() == kGreetingWords, "a greeting has its words");
  const auto w = words_of(words);
  return {.shape = {.latent = {w[0], w[1], w[2], w[3]}, .text = {w[4], w[5]}}, .detail_bytes = w[6]};
}

int64_t header_words(int64_t rows) { return kHeaderFixedWords + rows; }

at::Tensor encode_header(const BatchHeader& header) {
  std::vector<int64_t> words{header.place.iteration, header.place.first_slot,
                             header.place.rows,      static_cast<int64_t>(header.samples.size()),
                             header.stop_requested,  header.detail_bytes};
  words.insert(words.end(), header.samples.begin(), header.samples.end());
  words.resize(header_words(header.place.rows));
  return words_tensor(words);
}

BatchHeader decode_header(const at::Tensor& words) {
  const auto w = words_of(words);
  ensure(words.numel() > kHeaderFixedWords && words.numel() == header_words(w[2]), "a header has its words");
  ensure(w[3] == 0 || w[3] == w[2], "a header names all samples or none");
  const auto samples = w.subspan(kHeaderFixedWords, w[3]);
  return {.place = {.iteration = w[0], .first_slot = w[1], .rows = w[2]},
          .samples = {samples.begin(), samples.end()},
          .stop_requested = w[4] != 0,
          .detail_bytes = w[5]};
}

at::Tensor encode_control(Control control) {
  return words_tensor(std::array<int64_t, 1>{static_cast<int64_t>(control)});
}

Control decode_control(const at::Tensor& words) {
  const auto control = static_cast<Control>(words_of(words)[0]);
  ensure(control == Control::kCredit || control == Control::kClose, "a control message is known");
  return control;
}

// CBOR and not JSON text: file names need not be UTF-8.
at::Tensor encode_details(const Details& details) {
  auto bad = nlohmann::json::array();
  for (const BadSample& b : details.bad) bad.push_back({b.sample, b.name, b.problem});
  nlohmann::json json = {{"bad", bad}};
  if (const auto& error = details.error) {
    json["error"] = {error->exit_code(), std::string(error->what()), error->hint()};
  }
  const std::vector<uint8_t> bytes = nlohmann::json::to_cbor(json);
  at::Tensor tensor = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
  std::ranges::copy(bytes, tensor.mutable_data_ptr<uint8_t>());
  return tensor;
}

Details decode_details(const at::Tensor& bytes) {
  const auto* begin = bytes.const_data_ptr<uint8_t>();
  const nlohmann::json json = nlohmann::json::from_cbor(begin, begin + bytes.numel());
  Details details;
  for (const auto& b : json.at("bad")) details.bad.push_back({b.at(0), b.at(1), b.at(2)});
  if (const auto error = json.find("error"); error != json.end()) {
    details.error.emplace(static_cast<ErrorKind>(error->at(0).get<int>()), error->at(1), error->at(2));
  }
  return details;
}

}  // namespace tmd::workers
