#include "orchestrator/step_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <unistd.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/host_memory.h"
#include "comm/agree.h"
#include "model/wan_dit.h"
#include "model/wan_names.h"
#include "orchestrator/bare_wan.h"
#include "orchestrator/muted_communicator.h"
#include "orchestrator/spread.h"
#include "sharding/adamw.h"
#include "sharding/initialise.h"
#include "sharding/memory_counter.h"
#include "workers/device.h"

namespace tmd::orchestrator {
namespace {

using Clock = std::chrono::steady_clock;
using sharding::ShardedNetwork;

constexpr double kGuidance = 5, kStudentTime = 999;
constexpr int64_t kNoises = 3;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// CRC-32 of zlib, by which weights get their seeds in every language.
uint32_t crc32(const std::string& text) {
  uint32_t crc = 0xffffffffU;
  for (const char c : text) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320U & (0U - (crc & 1U)));
  }
  return ~crc;
}

at::Generator generator(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

// As the Python program draws it: by the name and shape that diffusers gives the parameter.
at::Tensor initial_value(const sharding::ParamSpec& param, uint64_t seed) {
  const std::string name = model::name_in(model::WanNaming::kDiffusers, param.name);
  const std::string leaf = name.substr(name.rfind('.') + 1);
  if (leaf == "bias") return at::zeros(param.shape);
  if (leaf == "weight" && param.shape.size() == 1) return at::ones(param.shape);
  const double deviation =
      leaf == "scale_shift_table" ? 1 / std::sqrt(static_cast<double>(param.shape.back())) : 0.02;
  return at::empty(param.shape).normal_(0, deviation, generator((seed << 32) ^ crc32(name)));
}

void fill(ShardedNetwork& network, uint64_t seed) {
  for (int unit = 0; unit < network.units(); ++unit) {
    for (const sharding::ShardSegment& segment : network.shard(unit).segments) {
      const sharding::ParamSpec& param = network.spec(unit).params[segment.param];
      at::Tensor value = initial_value(param, seed);
      const sharding::Slice& slice = segment.slice;
      if (slice.split_dim >= 0) value = value.narrow(slice.split_dim, slice.split_begin, slice.split_count);
      network.shard(unit)
          .place(segment, network.layout(unit))
          .copy_(value.reshape({-1}).narrow(0, slice.flat_begin, slice.elements()));
    }
  }
  network.publish();
}

struct Data {
  at::Tensor latent, text, noise, time;  // [B, C, T, H, W], [B, S, E], [B, 3, C, T, H, W], [B, 3] float64
};

double process_age() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string text;
  std::getline(stat, text);
  std::vector<std::string> fields;
  for (size_t at = text.rfind(')') + 2; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    fields.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  double up = 0;
  uptime >> up;
  constexpr size_t kStartTime = 19;  // field 22 of the file, the first here being number 3
  return fields.size() <= kStartTime
             ? 0
             : up - std::stod(fields[kStartTime]) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

/// The networks and their steps.
class Job {
 public:
  Job(const StepBenchPlan& plan, const StepPreset& preset, const sharding::Mesh& mesh, at::Device device)
      : plan_(plan), preset_(preset), mesh_(mesh), device_(device), buffers_(device), arena_(device) {
    make("student", true);
    if (plan.mode == "bare") bare_.emplace(preset.wan, *networks_.at("student"));
    if (plan.mode != "plain" && plan.mode != "bare") make("fake", true), make("teacher", false);
    at::Tensor one =
        at::randn({1, preset.wan.text_length, preset.wan.text_dim}, generator(plan.seed * 7 + 1));
    negative_ = one.expand({plan.batch, -1, -1}).contiguous().to(device);
  }

  std::map<std::string, double> iterate(int64_t number, std::map<std::string, double>& seconds) {
    const Data data = batch(number);
    std::map<std::string, double> losses;
    const auto run = [&](const std::string& step, auto action) {
      const bool is_of_both = step == "student" || step == "critic";
      if (plan_.mode != step && !(plan_.mode == "both" && is_of_both)) return;
      start_ = Clock::now();
      losses[step] = action(data);
      workers::synchronize(device_);
      seconds[step] = seconds_since(start_);
      if (step == "plain" || step == "bare") seconds["passes"] = passes_s_;
    };
    run("student", [this](const Data& d) { return student_step(d); });
    run("critic", [this](const Data& d) { return critic_step(d); });
    run("plain", [this](const Data& d) { return plain_step(d); });
    run("bare", [this](const Data& d) { return plain_step(d); });
    return losses;
  }

  // Moments are no part of the networks' start: the peer takes them in its first step.
  void make_optimizers() {
    for (auto& [name, net] : networks_) {
      if (net->trainable()) optimizers_[name] = std::make_unique<sharding::AdamW>(*net);
    }
  }

  ShardedNetwork::ExposedTime take_exposed() {
    ShardedNetwork::ExposedTime sum;
    for (auto& [name, net] : networks_) {
      const auto own = net->take_exposed_time();
      sum.gather_s += own.gather_s, sum.reduce_s += own.reduce_s, sum.exchange_s += own.exchange_s;
    }
    return sum;
  }
  int64_t parameters() const { return sharding::count_elements(model::wan_units(preset_.wan)); }

 private:
  void make(const std::string& name, bool trained) {
    auto& net = networks_[name];
    net = std::make_unique<ShardedNetwork>(name, model::wan_units(preset_.wan), mesh_, plan_.type, trained,
                                           buffers_, trained ? &arena_ : nullptr);
    if (name == "student") {
      fill(*net, plan_.seed);
    } else {
      sharding::copy_parameters(*networks_.at("student"), *net);
    }
    dits_[name] = std::make_unique<model::WanDit>(preset_.wan, *net);
    const auto keep = static_cast<int>(std::min(plan_.keep_blocks, preset_.wan.layers));
    if (trained && keep > 0) net->keep_units(static_cast<int>(1 + preset_.wan.layers) - keep, keep);
  }

  at::Tensor run(const std::string& name, const at::Tensor& x, const at::Tensor& time, const at::Tensor& text,
                 bool weight_gradients) {
    if (bare_) return bare_->forward(x, time, text);
    return dits_.at(name)->forward(x, time, text, {weight_gradients, {}, false}).velocity;
  }

  Data batch(int64_t iteration) const {
    std::vector<at::Tensor> latents, texts, noises, times;
    const int64_t first = (iteration * mesh_.data_ranks() + mesh_.data_rank()) * plan_.batch;
    for (int64_t i = 0; i < plan_.batch; ++i) {
      at::Generator g = generator(plan_.seed * 1'000'003 + static_cast<uint64_t>(first + i));
      const std::vector<int64_t> shape = {preset_.wan.channels, preset_.frames, preset_.height,
                                          preset_.width};
      latents.push_back(at::randn(shape, g));
      texts.push_back(at::randn({preset_.wan.text_length, preset_.wan.text_dim}, g));
      noises.push_back(at::randn({kNoises, shape[0], shape[1], shape[2], shape[3]}, g));
      times.push_back(at::randint(20, 981, {kNoises}, g, at::kLong).to(at::kDouble));
    }
    return {at::stack(latents).to(device_), at::stack(texts).to(device_), at::stack(noises).to(device_),
            at::stack(times)};
  }

  // The straight path between x and noise at `time`, and sigma in the shape of the latents.
  static std::pair<at::Tensor, at::Tensor> shift(const at::Tensor& time, const at::Tensor& x,
                                                 const at::Tensor& noise) {
    const at::Tensor s = (time.to(at::kFloat) / 1000).view({-1, 1, 1, 1, 1}).to(x.device());
    return {(1 - s) * x + s * noise, s};
  }

  at::Tensor generate(const Data& data, bool weight_gradients) {
    const at::Tensor noise = data.noise.select(1, 0),
                     time = at::full({plan_.batch}, kStudentTime, at::kDouble);
    return noise - (kStudentTime / 1000) * run("student", noise, time, data.text, weight_gradients);
  }

  double update(const std::string& name, const at::Tensor& loss) {
    (loss / mesh_.data_ranks()).backward();
    buffers_.end_phase();
    ShardedNetwork& net = *networks_.at(name);
    workers::synchronize(device_);
    passes_s_ = seconds_since(start_);
    if (bare_) bare_->hand_over_gradients();
    net.reduce_over_replicas();
    optimizers_.at(name)->step(
        {.lr = 1e-5, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.01}, 1);
    net.zero_gradients();
    return loss.item<double>();
  }

  double student_step(const Data& data) {
    buffers_.begin_phase("student");
    const at::Tensor x0 = generate(data, true);
    at::Tensor target;
    {
      const at::NoGradGuard no_grad;
      const at::Tensor time = data.time.select(1, 1);
      const auto [xt, s] = shift(time, x0, data.noise.select(1, 1));
      const at::Tensor fake = xt - s * run("fake", xt, time, data.text, false);
      const at::Tensor cond = run("teacher", xt, time, data.text, false);
      const at::Tensor negative = run("teacher", xt, time, negative_, false);
      const at::Tensor real = xt - s * (negative + kGuidance * (cond - negative));
      const at::Tensor scale = (x0 - real).abs().mean({1, 2, 3, 4}, /*keepdim=*/true);
      target = x0 - (fake - real) / scale;
    }
    return update("student", 0.5 * at::mse_loss(x0, target));
  }

  double critic_step(const Data& data) {
    buffers_.begin_phase("critic");
    at::Tensor x0;
    {
      const at::NoGradGuard no_grad;
      x0 = generate(data, false);
    }
    const at::Tensor time = data.time.select(1, 2), noise = data.noise.select(1, 2);
    const at::Tensor xt = shift(time, x0, noise).first;
    return update("fake", at::mse_loss(run("fake", xt, time, data.text, true), noise - x0));
  }

  double plain_step(const Data& data) {
    buffers_.begin_phase("plain");
    const at::Tensor time = data.time.select(1, 0), noise = data.noise.select(1, 0);
    const at::Tensor xt = shift(time, data.latent, noise).first;
    return update("student", at::mse_loss(run("student", xt, time, data.text, true), noise - data.latent));
  }

  const StepBenchPlan& plan_;
  const StepPreset& preset_;
  const sharding::Mesh& mesh_;
  at::Device device_;
  sharding::GatherBuffers buffers_;
  sharding::GradientArena arena_;
  std::map<std::string, std::unique_ptr<ShardedNetwork>> networks_;
  std::map<std::string, std::unique_ptr<sharding::AdamW>> optimizers_;
  std::map<std::string, std::unique_ptr<model::WanDit>> dits_;
  std::optional<BareWan> bare_;
  Clock::time_point start_;  // of the present step
  double passes_s_ = 0;      // of it, before the optimizer
  at::Tensor negative_;
};

// Wan 6.1, with the embedders and the head left out.
double forward_flops(const model::WanConfig& c, int64_t tokens) {
  const auto n = static_cast<double>(tokens), d = static_cast<double>(c.width()),
             f = static_cast<double>(c.ffn), s = static_cast<double>(c.text_length);
  return static_cast<double>(c.layers) *
         (n * (12 * d * d + 4 * d * f) + 4 * n * n * d + 4 * n * s * d + 4 * s * d * d);
}

}  // namespace

StepPreset step_preset(const std::string& name) {
  const auto make = [](int64_t heads, int64_t head_dim, int64_t ffn, int64_t layers, int64_t frames,
                       int64_t height, int64_t width) {
    StepPreset preset;
    preset.wan.heads = heads, preset.wan.head_dim = head_dim, preset.wan.ffn = ffn,
    preset.wan.layers = layers;
    preset.wan.channels = 16, preset.wan.text_dim = 256, preset.wan.text_length = 64;
    preset.frames = frames, preset.height = height, preset.width = width;
    return preset;
  };
  if (name == "tiny") return make(4, 32, 512, 4, 3, 16, 16);
  if (name == "small") return make(12, 64, 3072, 8, 5, 16, 24);
  if (name == "wide") return make(12, 128, 8960, 2, 3, 16, 16);
  if (name == "wan1.3b") {
    StepPreset preset = make(12, 128, 8960, 30, 21, 60, 104);
    preset.wan.text_dim = 4096, preset.wan.text_length = 512;
    return preset;
  }
  throw Error(ErrorKind::kUsage, "tmd bench step: there is no preset '" + name + "'",
              "take tiny, small, wide or wan1.3b");
}

StepBench measure_steps(comm::Communicator& world, const StepBenchPlan& plan) {
  const StepPreset preset = step_preset(plan.preset);
  at::set_num_threads(static_cast<int>(plan.threads));
  StepBench bench;
  bench.ranks = world.size();
  bench.tokens = preset.frames * (preset.height / 2) * (preset.width / 2);
  bench.flops_forward = forward_flops(preset.wan, bench.tokens);
  const auto worst = [&](uint64_t bytes) {
    return static_cast<double>(comm::agree_max(world, static_cast<int64_t>(bytes)));
  };
  const uint64_t before = resident_memory();
  bench.resident_before = worst(before);
  const auto shape =
      sharding::resolve_mesh(plan.mesh, world.size(), {.heads = preset.wan.heads, .ffn = preset.wan.ffn});
  bool is_muted = false;
  workers::DeviceGroup group(world.split(0, world.rank(), "compute"), plan.device);
  bench.device = group.device().is_cpu() ? "cpu" : "cuda";
  MutedCommunicator trainers(group.comm(), is_muted);
  sharding::Mesh mesh(shape, trainers);
  {
    Job job(plan, preset, mesh, group.device());
    bench.parameters = job.parameters();
    world.barrier();
    bench.ready_s = comm::agree_slowest(world, process_age());
    job.make_optimizers();
    sharding::MemoryCounter::process().reset_peak();
    for (int64_t i = 0; i < plan.warmup + plan.measured; ++i) {
      if (i == plan.warmup) job.take_exposed();
      is_muted = plan.mute && i >= plan.warmup;
      world.barrier();
      std::map<std::string, double> seconds;
      const auto start = Clock::now();
      std::map<std::string, double> losses = job.iterate(i, seconds);
      const double took = comm::agree_slowest(world, seconds_since(start));
      for (auto& [name, loss] : losses) {
        comm::sum(world, std::span<double>(&loss, 1));
        loss /= world.size();
      }
      bench.losses.push_back(losses);
      for (const auto& [step, s] : seconds) {
        const double slow = comm::agree_slowest(world, s);
        if (i >= plan.warmup) bench.step_s[step].push_back(slow);
      }
      if (i >= plan.warmup) bench.iteration_s.push_back(took);
    }
    const auto counted = sharding::MemoryCounter::process().peak();
    bench.counted = sharding::bytes_text(counted.total) + " in " + counted.place + ": " +
                    sharding::items_text(counted.items);
    const auto exposed = job.take_exposed();
    const auto count = static_cast<double>(plan.measured);
    bench.gather_exposed_s = exposed.gather_s / count;
    bench.reduce_exposed_s = exposed.reduce_s / count;
    bench.exchange_exposed_s = exposed.exchange_s / count;
    if (!group.device().is_cpu()) {  // the caching allocator keeps what it has taken
      const cuda::MemoryInfo memory = cuda::memory_info();
      bench.device_bytes = worst(memory.total_bytes - memory.free_bytes);
    }
  }
  bench.peak_added = worst(peak_resident_memory() - before);
  mesh.close();
  group.close();
  return bench;
}

nlohmann::json StepBench::json(const StepBenchPlan& plan) const {
  nlohmann::json steps = nlohmann::json::object();
  for (const auto& [step, seconds] : step_s) steps[step] = spread(seconds);
  return {{"preset", plan.preset},
          {"mode", plan.mode},
          {"dtype", plan.type == at::kFloat ? "fp32" : "bf16"},
          {"ranks", ranks},
          {"threads", plan.threads},
          {"mesh", {plan.mesh.replicate, plan.mesh.shard, plan.mesh.sequence, plan.mesh.tensor}},
          {"batch", plan.batch},
          {"keep_blocks", plan.keep_blocks},
          {"muted", plan.mute},
          {"warmup", plan.warmup},
          {"iteration_s", spread(iteration_s)},
          {"step_s", steps},
          {"losses", losses},
          {"exposed_s",
           {{"gather", gather_exposed_s}, {"reduce", reduce_exposed_s}, {"exchange", exchange_exposed_s}}},
          {"ready_s", ready_s},
          {"resident_before_mib", resident_before / 1048576},
          {"peak_added_mib", peak_added / 1048576},
          {"device", device},
          {"device_mib", device_bytes / 1048576},
          {"counted", counted},
          {"parameters", parameters},
          {"tokens_per_sample", tokens},
          {"forward_flops_per_sample", flops_forward}};
}

std::string StepBench::table(const StepBenchPlan& plan) const {
  std::string text = fmt::format("{} {} on {} rank{}, {:.1f} M parameters a network, {} tokens a sample\n",
                                 plan.preset, plan.type == at::kFloat ? "fp32" : "bf16", ranks,
                                 ranks == 1 ? "" : "s", static_cast<double>(parameters) * 1e-6, tokens);
  const auto line = [&](const std::string& name, const std::vector<double>& seconds) {
    const nlohmann::json s = spread(seconds);
    text += fmt::format("  {:<10} {:8.3f} s fastest, {:8.3f} s median\n", name, s["min"].get<double>(),
                        s["median"].get<double>());
  };
  for (const auto& [step, seconds] : step_s) line(step, seconds);
  line("iteration", iteration_s);
  text += fmt::format(
      "  waited for communication, rank 0, an iteration: parameters {:.3f} s, gradients {:.3f} s, tokens "
      "{:.3f} s\n",
      gather_exposed_s, reduce_exposed_s, exchange_exposed_s);
  text += fmt::format(
      "  networks ready after {:.2f} s; memory {:.0f} MiB before them, {:.0f} MiB more at the peak\n",
      ready_s, resident_before / 1048576, peak_added / 1048576);
  if (device_bytes > 0)
    text += fmt::format("  memory of the device that is taken: {:.0f} MiB\n", device_bytes / 1048576);
  text += "  tensors at their peak, rank 0: " + counted + "\n";
  for (const auto& [name, loss] : losses.back())
    text += fmt::format("  last loss of the {} {:.9g}\n", name, loss);
  return text;
}

}  // namespace tmd::orchestrator
