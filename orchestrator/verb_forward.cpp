#include <fmt/format.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <nlohmann/json.hpp>
#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"
#include "base/host_memory.h"
#include "base/input_file.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "model/wan_dit.h"
#include "model/wan_ops.h"
#include "orchestrator/arguments.h"
#include "orchestrator/job.h"
#include "orchestrator/loaded_wan.h"
#include "orchestrator/tensor_file.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd forward --weights DIR|FILE --inputs IN.safetensors --output OUT.safetensors [--dtype f64|f32|bf16|bf16-diffusers]
            [--device auto|cpu|cuda] [--blocks 0,29] [--gradients] [--report FILE.json] [--mesh.sequence N] [--mesh.tensor N]

Runs a Wan transformer once, so that it can be held against another implementation. DIR is a model folder as published
(original or diffusers layout, sharded or not) or an export; IN holds

  latents    [B, C, T, H, W]   normalised latents x_t
  timestep   [B]               network time, 1000 sigma; integers or not, never rounded
  text       [B, S, E]         text embeddings; rows behind the text's end are zero

and OUT gets `output` [B, C, T, H, W] (an estimate of noise - data) and, for every block named in --blocks (counted from 0),
`block.I` [B, N, D], tokens in row-major order of frame, row, column. --dtype bf16 rounds at matrix products and keeps the
residual stream, norms, modulation, time embedding and head in float32; bf16-diffusers rounds where diffusers does.

--gradients: IN holds `output_gradient` in the shape of the output as well, and OUT gets the gradients of
sum(output * output_gradient): `grad.latents`, `grad.text` and `grad.NAME` for every parameter under its name in the file.
--report writes times, bytes read and memory as JSON. Under mpirun the parameters are cut over all ranks;
--mesh.sequence and --mesh.tensor cut the tokens and the heads as well (their product must divide the heads).

  tmd forward --weights Wan2.1-T2V-1.3B --inputs in.safetensors --output out.safetensors --dtype bf16 --blocks 0,29
)";

struct Inputs {
  at::Tensor latents, timestep, text, output_gradient;

  // Times stay on the host, where they decide what is computed.
  void to(at::Device device) {
    latents = latents.to(device);
    text = text.to(device);
    if (output_gradient.defined()) output_gradient = output_gradient.to(device);
  }
};

Inputs read_inputs(const std::string& path, bool gradients, at::ScalarType type) {
  const SafetensorsFile file(input_file(path));
  Inputs in{.latents = read_tensor(file, "latents", 5, "[B, C, T, H, W]").to(type),
            .timestep = read_tensor(file, "timestep", 1, "[B]").to(at::kDouble),
            .text = read_tensor(file, "text", 3, "[B, S, E]").to(type),
            .output_gradient = {}};
  const int64_t batch = in.latents.size(0);
  check(in.timestep.size(0) == batch && in.text.size(0) == batch, ErrorKind::kData,
        fmt::format("{}: {} latents, {} timesteps and {} texts", path, batch, in.timestep.size(0),
                    in.text.size(0)));
  if (!gradients) return in;
  in.output_gradient = read_tensor(file, "output_gradient", 5, "[B, C, T, H, W]").to(type);
  check(in.output_gradient.sizes() == in.latents.sizes(), ErrorKind::kData,
        path + ": output_gradient has not the shape of latents");
  return in;
}

std::vector<int64_t> parse_blocks(const Arguments& arguments, int64_t layers) {
  std::vector<int64_t> blocks;
  std::string list = arguments.value_or("blocks", "");
  for (size_t begin = 0; begin < list.size();) {
    const size_t comma = std::min(list.find(',', begin), list.size());
    const std::string word = list.substr(begin, comma - begin);
    const bool is_number =
        !word.empty() && word.find_first_not_of("0123456789") == std::string::npos && word.size() < 9;
    check(is_number && std::stoll(word) < layers, ErrorKind::kUsage,
          fmt::format("--blocks {}: '{}' is no block of a network with {} blocks", list, word, layers),
          fmt::format("blocks are numbered 0 to {}, as in --blocks 0,{}", layers - 1, layers - 1));
    blocks.push_back(std::stoll(word));
    begin = comma + 1;
  }
  return blocks;
}

// Runs the network; with gradients its result carries a graph.
NamedTensors run_network(const model::WanDit& dit, const Inputs& in, const std::vector<int64_t>& blocks,
                         bool weight_gradients) {
  const model::TokenGrid grid = model::token_grid(in.latents);
  model::WanStream stream = dit.embed(in.latents, in.timestep, in.text, weight_gradients);
  NamedTensors out;
  for (int64_t i = 0; i < dit.config().layers; ++i) {
    stream.tokens = dit.block(i, stream, grid, weight_gradients);
    if (std::ranges::find(blocks, i) != blocks.end())
      out[fmt::format("block.{}", i)] = model::wide(dit.whole_tokens(stream.tokens, grid));
  }
  out["output"] = dit.head(stream, grid, weight_gradients);
  return out;
}

// Every sample group of the mesh runs the whole batch, so the sum over the ranks holds each parameter's
// gradient once for each group.
void add_gradients(LoadedWan& loaded, const model::WanDit& dit, Inputs in, const std::vector<int64_t>& blocks,
                   NamedTensors& out) {
  in.latents.requires_grad_(true);
  in.text.requires_grad_(true);
  out = run_network(dit, in, blocks, /*weight_gradients=*/true);
  loaded.network().zero_gradients();
  const auto grads = torch::autograd::grad({out["output"]}, {in.latents, in.text}, {in.output_gradient});
  out["output"] = out["output"].detach();
  out["grad.latents"] = grads[0];
  out["grad.text"] = grads[1];
  sharding::ShardedNetwork& network = loaded.network();
  // Rank 0 writes them; the others would only hold them.
  const bool keeps = network.mesh().world().rank() == 0;
  for (int unit = 0; unit < network.units(); ++unit) {
    std::vector<at::Tensor> gradients = network.full_gradients(unit);
    for (size_t i = 0; keeps && i < gradients.size(); ++i) {
      out["grad." + loaded.weights().spelling.of(network.spec(unit).params[i].name)] =
          gradients[i].div_(static_cast<double>(loaded.mesh().data_ranks()));
    }
  }
}

nlohmann::json report_of(const LoadedWan::LoadReport& load, double forward_s, int ranks) {
  return {{"ranks", ranks},
          {"load_s", load.seconds},
          {"bytes_read", load.bytes_read},
          {"file_bytes", load.file_bytes},
          {"shard_bytes", load.shard_bytes},
          {"largest_unit_bytes", load.largest_unit},
          {"peak_above_start_bytes", load.peak_above_start},
          {"forward_s", forward_s},
          {"peak_resident_bytes", peak_resident_memory()}};
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments(
      "forward", words,
      {"weights", "inputs", "output", "dtype", "blocks", "report", "device", "mesh.sequence", "mesh.tensor"},
      {"gradients"});
  arguments.refuse_plain();
  const bool gradients = arguments.has("gradients");
  const std::string output = arguments.required("output");
  const Precision precision = parse_precision(arguments.value_or("dtype", "f32"));
  set_compute_threads(world, 0);
  OpenedWan opened(world, arguments.required("weights"));
  check(!opened.weights->has_student_parts, ErrorKind::kData,
        opened.weights->files.path().string() + " is a TMD student, which is no single network",
        "tmd sample runs it");
  const std::vector<int64_t> blocks = parse_blocks(arguments, opened.weights->config.layers);
  Inputs in;
  comm::run_agreed(world, [&] {
    const at::ScalarType type = precision == Precision::kF64 ? at::kDouble : at::kFloat;
    in = read_inputs(arguments.required("inputs"), gradients, type);
    require_folder_of(output);
    if (arguments.has("report")) require_folder_of(arguments.required("report"));
  });
  const sharding::MeshShape mesh{.sequence = arguments.integer_or("mesh.sequence", 1),
                                 .tensor = arguments.integer_or("mesh.tensor", 1)};
  LoadedWan loaded(
      world, std::move(opened), precision,
      {.trainable = gradients, .mesh = mesh, .device = parse_device(arguments.value_or("device", "auto"))});
  in.to(loaded.device());
  const model::WanDit dit(
      loaded.weights().config, loaded.network(),
      precision == Precision::kBf16Diffusers ? std::optional(at::kBFloat16) : std::nullopt);
  const auto start = std::chrono::steady_clock::now();
  NamedTensors out;
  if (gradients) {
    add_gradients(loaded, dit, in, blocks, out);
  } else {
    const at::NoGradGuard no_grad;
    out = run_network(dit, in, blocks, /*weight_gradients=*/false);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  comm::run_agreed(world, [&] {
    if (world.rank() != 0) return;
    write_tensors(output, out);
    if (arguments.has("report")) {
      publish_file(arguments.required("report"),
                   report_of(loaded.report(), took.count(), world.size()).dump(2) + "\n");
    }
    log_info("wrote {} after {:.2f} s of computing", output, took.count());
  });
  loaded.close();
  return 0;
}

}  // namespace

const Verb kForwardVerb{"forward", "run a Wan transformer once, to compare it with others", kHelp, run};

}  // namespace tmd::orchestrator
