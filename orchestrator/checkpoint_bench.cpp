#include "orchestrator/checkpoint_bench.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <memory>
#include <optional>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/host_memory.h"
#include "comm/agree.h"
#include "orchestrator/spread.h"
#include "orchestrator/step_bench.h"
#include "orchestrator/training_state.h"
#include "workers/networks.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using workers::NetworkRole;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

workers::NetworkPlan plan_of(const model::WanConfig& wan) {
  workers::NetworkPlan plan;
  plan.model.wan = wan;
  plan.student.wan = wan;
  return plan;
}

// The student is a network like the teacher.
workers::StageOptions options() {
  workers::StageOptions options;
  options.method.name = workers::MethodName::kDmd2v;
  options.stage2.equation.gan_weight = 0;
  return options;
}

/// A run that trains its student on noise and writes checkpoints meanwhile.
class Run {
 public:
  Run(const StepPreset& preset, const sharding::Mesh& mesh, const fs::path& folder)
      : preset_(preset),
        plan_(plan_of(preset.wan)),
        mesh_(mesh),
        store_(folder),
        networks_(plan_, options_, mesh, at::kFloat, 1) {
    networks_.make_teacher();
    networks_.enter(workers::Stage::kStage2);
    for (int i = 0; i < 2; ++i) iterate();  // buffers, moments
  }

  double iterate() {
    mesh_.world().barrier();
    const auto begin = Clock::now();
    workers::TrainedNetwork& student = networks_.at(NetworkRole::kStudent);
    networks_.buffers().begin_phase("student");
    const auto view = workers::velocity_view(plan_, *student.network, /*weight_gradients=*/true);
    const at::Tensor x = at::randn({1, preset_.wan.channels, preset_.frames, preset_.height, preset_.width});
    const at::Tensor text = at::randn({1, preset_.wan.text_length, preset_.wan.text_dim});
    view->velocity(x, at::full({1}, 0.5, at::kDouble), text).square().mean().backward();
    networks_.buffers().end_phase();
    student.network->reduce_over_replicas();
    hold([&] {
      if (save_) save_->keep(name(NetworkRole::kStudent));
    });
    student.optimizer->step({.lr = 1e-5}, 1);
    student.network->zero_gradients();
    hold([this] { go_on(); });
    return comm::agree_slowest(mesh_.world(), seconds_since(begin));
  }

  /// Iterations from the begin of a save to its end, at least `least` in all.
  void save(int64_t least, CheckpointBench& bench) {
    held_s_ = 0;
    save_s_ = 0;
    begun_ = Clock::now();
    ++counters_.iteration;
    hold([this] {
      save_ = begin_checkpoint(store_, mesh_, 1, networks_, counters_, {}, {NetworkRole::kStudent});
    });
    for (int64_t i = 0; save_ || i < least; ++i) {
      const bool is_saving = save_ != nullptr;
      const double took = iterate();
      if (is_saving) bench.step_in_save_s.push_back(took);
    }
    bench.held_s.push_back(comm::agree_slowest(mesh_.world(), held_s_));
    bench.save_s.push_back(comm::agree_slowest(mesh_.world(), save_s_));
  }

  double allocate() {
    mesh_.world().barrier();
    const auto begin = Clock::now();
    networks_.allocate(workers::Stage::kStage2);
    return comm::agree_slowest(mesh_.world(), seconds_since(begin));
  }

  double load() {
    mesh_.world().barrier();
    const auto begin = Clock::now();
    load_checkpoint(store_, counters_.iteration, mesh_, networks_);
    return comm::agree_slowest(mesh_.world(), seconds_since(begin));
  }

  /// Every rank reads its share of the bytes of the newest checkpoint into memory that it has never touched.
  double read() const {
    std::vector<fs::path> files;
    for (const fs::path& file : list_folder(store_.folder(counters_.iteration))) {
      if (file.extension() == ".safetensors") files.push_back(file);
    }
    mesh_.world().barrier();
    const auto begin = Clock::now();
    const auto ranks = static_cast<size_t>(mesh_.world().size());
    std::vector<std::unique_ptr<std::byte[]>> kept;
    for (size_t i = static_cast<size_t>(mesh_.world().rank()); i < files.size(); i += ranks) {
      const File file = File::open_to_read(files[i]);
      const size_t size = file.size_bytes();
      kept.push_back(std::make_unique_for_overwrite<std::byte[]>(size));
      for (size_t at = 0; at < size; at += checkpoint::kBlockBytes) {
        const size_t count = std::min<size_t>(checkpoint::kBlockBytes, size - at);
        file.read_at(at, {kept.back().get() + at, count});
      }
    }
    return comm::agree_slowest(mesh_.world(), seconds_since(begin));
  }

  int64_t bytes() { return checkpoint_bytes(mesh_, networks_); }
  int64_t bytes_of_student() {
    int64_t bytes = 0;
    sharding::ShardedNetwork& student = networks_.network(NetworkRole::kStudent);
    for (int unit = 0; unit < student.units(); ++unit)
      bytes += 3 * static_cast<int64_t>(student.shard(unit).master.nbytes());
    return bytes;
  }

 private:
  template <class Action>
  void hold(Action action) {
    const auto begin = Clock::now();
    action();
    held_s_ += seconds_since(begin);
  }

  void go_on() {
    if (!comm::agree_all(mesh_.world(), !save_ || save_->is_idle()) || !save_) return;
    if (!save_->advance()) return;
    save_.reset();
    save_s_ = seconds_since(begun_);
  }

  const StepPreset& preset_;
  const workers::NetworkPlan plan_;
  const workers::StageOptions options_ = options();
  const sharding::Mesh& mesh_;
  const checkpoint::Store store_;
  workers::StageNetworks networks_;
  RunCounters counters_;
  std::unique_ptr<checkpoint::BackgroundSave> save_;
  Clock::time_point begun_;
  double held_s_ = 0, save_s_ = 0;
};

}  // namespace

CheckpointBench measure_checkpoints(comm::Communicator& world, const CheckpointBenchPlan& plan) {
  const StepPreset preset = step_preset(plan.preset);
  at::set_num_threads(1);
  const auto shape =
      sharding::resolve_mesh(plan.mesh, world.size(), {.heads = preset.wan.heads, .ffn = preset.wan.ffn});
  comm::run_agreed(world, [&] {
    if (world.rank() != 0) return;
    check(!fs::exists(plan.folder), ErrorKind::kUsage, plan.folder.string() + " exists",
          "name a folder that does not: it is removed at the end");
    create_folders(plan.folder);
  });
  CheckpointBench bench;
  bench.ranks = world.size();
  sharding::Mesh mesh(shape, world);
  {
    Run run(preset, mesh, plan.folder);
    double bytes = static_cast<double>(run.bytes());
    comm::sum(world, {&bytes, 1});
    bench.bytes = bytes;
    bench.network_bytes = static_cast<double>(run.bytes_of_student());
    for (int64_t i = 0; i < plan.iterations * plan.repeats; ++i) bench.step_s.push_back(run.iterate());
    const uint64_t before = peak_resident_memory();
    for (int64_t i = 0; i < plan.repeats; ++i) run.save(plan.iterations, bench);
    bench.extra_bytes =
        static_cast<double>(comm::agree_max(world, static_cast<int64_t>(peak_resident_memory() - before)));
    for (int64_t i = 0; i < plan.repeats; ++i) {
      bench.read_s.push_back(run.read());
      bench.allocate_s.push_back(run.allocate());
      bench.load_s.push_back(run.load());
    }
  }
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) remove_tree(plan.folder);
  });
  mesh.close();
  return bench;
}

nlohmann::json CheckpointBench::json() const {
  return {{"ranks", ranks},
          {"bytes", bytes},
          {"step_s", spread(step_s)},
          {"step_in_save_s", spread(step_in_save_s)},
          {"held_s", spread(held_s)},
          {"save_s", spread(save_s)},
          {"allocate_s", spread(allocate_s)},
          {"load_warm_s", spread(load_s)},
          {"read_warm_s", spread(read_s)},
          {"extra_mib", extra_bytes / 1048576},
          {"network_mib", network_bytes / 1048576}};
}

std::string CheckpointBench::table() const {
  std::string text =
      fmt::format("checkpoints of {:.0f} MiB on {} rank{}\n", bytes / 1048576, ranks, ranks == 1 ? "" : "s");
  const auto line = [&](const std::string& name, const std::vector<double>& seconds) {
    const nlohmann::json s = spread(seconds);
    text += fmt::format("  {:<34} {:8.3f} s fastest, {:8.3f} s median, {:8.3f} s slowest\n", name,
                        s["min"].get<double>(), s["median"].get<double>(), s["max"].get<double>());
  };
  line("iteration", step_s);
  line("iteration while one is written", step_in_save_s);
  line("training held by a save", held_s);
  line("save, from begin to end", save_s);
  line("plain read into fresh memory", read_s);
  line("networks made for a load", allocate_s);
  line("load, warm, networks included", load_s);
  text += fmt::format("  memory more than without saves {:.0f} MiB; a rank writes {:.0f} MiB of a network\n",
                      extra_bytes / 1048576, network_bytes / 1048576);
  return text;
}

}  // namespace tmd::orchestrator
