// Times one Wan block, forward and backward, as a unit's recompute runs it. Not a test: ctest does not run
// it.
//
//   block_times WIDTH HEADS FFN TOKENS THREADS fp32|bf16|bf16-stream [REPEATS]
//
// Prints the fastest of REPEATS runs (default 10) in milliseconds: forward without a graph, forward with one,
// backward.

#include <chrono>
#include <cstdlib>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <spdlog/fmt/fmt.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/wan_block.h"
#include "model/wan_ops.h"

namespace {

using namespace tmd::model;

constexpr int64_t kTextRows = 64;

double seconds(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Random parameters of a block in the types of a network that computes in `type`, in the order of its spec.
std::vector<at::Tensor> random_parameters(const tmd::sharding::UnitSpec& unit, at::ScalarType type) {
  std::vector<at::Tensor> params;
  for (const auto& spec : unit.params) {
    const at::ScalarType own = spec.wide && type == at::kBFloat16 ? at::kFloat : type;
    params.push_back((at::randn(spec.shape) * 0.03).to(own).requires_grad_(true));
  }
  return params;
}

void run(const WanConfig& config, int64_t tokens, const std::string& kind, int repeats) {
  const at::ScalarType type = kind == "fp32" ? at::kFloat : at::kBFloat16;
  const at::ScalarType stream = kind == "bf16-stream" ? at::kBFloat16 : at::kFloat;
  const auto visit_block = [&](auto& v, auto& w) { visit(v, w, config, "blocks.0"); };
  const auto params = random_parameters(declare<BlockWeights>("blocks.0", visit_block), type);
  const auto weights = tmd::model::bind<BlockWeights>(params, visit_block);
  const int64_t width = config.width();
  const at::Tensor x = at::randn({1, tokens, width}).to(stream).requires_grad_(true);
  const at::Tensor e6 = at::randn({1, 6, width}).to(stream).requires_grad_(true);
  const at::Tensor context = at::randn({1, kTextRows, width}).to(type).requires_grad_(true);
  const at::Tensor rotations = rope_rotations({1, 1, tokens}, config.head_dim, at::kFloat);
  const at::Tensor gradient = at::randn({1, tokens, width}).to(stream);
  std::vector<at::Tensor> wanted = params;
  wanted.insert(wanted.end(), {x, e6, context});

  double plain = 1e9, forward = 1e9, backward = 1e9;
  const auto block = [&] { return block_forward(weights, config, x, e6, context, rotations); };
  for (int i = 0; i < repeats; ++i) {
    at::Tensor out;
    plain = std::min(plain, seconds([&] {
                       const at::NoGradGuard no_grad;
                       block();
                     }));
    forward = std::min(forward, seconds([&] { out = block(); }));
    backward = std::min(backward, seconds([&] { torch::autograd::grad({out}, wanted, {gradient}); }));
  }
  fmt::print(
      "{:12} width {:5} heads {:3} ffn {:5} tokens {:5} threads {}: forward {:7.1f}  with graph {:7.1f}  "
      "backward {:7.1f}  sum {:7.1f} ms\n",
      kind, width, config.heads, config.ffn, tokens, at::get_num_threads(), 1e3 * plain, 1e3 * forward,
      1e3 * backward, 1e3 * (forward + backward));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    fmt::print(stderr, "block_times WIDTH HEADS FFN TOKENS THREADS fp32|bf16|bf16-stream [REPEATS]\n");
    return 64;
  }
  WanConfig config;
  config.heads = std::atoi(argv[2]);
  config.head_dim = std::atoi(argv[1]) / config.heads;
  config.ffn = std::atoi(argv[3]);
  at::set_num_threads(std::atoi(argv[5]));
  run(config, std::atoi(argv[4]), argv[6], argc > 7 ? std::atoi(argv[7]) : 10);
  return 0;
}
