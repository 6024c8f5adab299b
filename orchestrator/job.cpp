#include "orchestrator/job.h"

#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <sched.h>
#include <thread>
#include <unistd.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/error.h"
#include "comm/agree.h"
#include "orchestrator/stop_request.h"
#include "workers/data_worker.h"
#include "workers/local_feed.h"
#include "workers/remote_feed.h"

namespace tmd::orchestrator {
namespace {

// Condition dropout and guidance show the negative prompt.
bool uses_negative_text(const configs::Config& config) {
  const workers::StageOptions& s = config.stages;
  if (config.sampler.cfg != 1) return true;
  for (workers::Stage stage : config.stage_list()) {
    if (stage == workers::Stage::kTeacher && s.teacher.condition_drop > 0) return true;
    if (stage == workers::Stage::kStage1 &&
        (s.stage1.shares.condition_drop > 0 || s.stage1.equation.cfg != 1 || s.stage1.equation.cfg_mix != 0))
      return true;
    if (stage == workers::Stage::kStage2 && s.stage2.equation.cfg != 1) return true;
  }
  return false;
}

std::unique_ptr<data::DataSet> open_data(const configs::Config& config) {
  require_data(config);
  auto set = std::make_unique<data::DataSet>(data::resolve_files(config.data.files));
  check(set->header().has_latents, ErrorKind::kData,
        fmt::format("{} has no /latents: it is a list of prompts", config.data.files.front()),
        "training needs latents");
  if (uses_negative_text(config)) set->negative_text();  // throws when there is none
  return set;
}

void check_batch(const configs::Config& config, const sharding::MeshShape& mesh) {
  const int64_t batch = config.train.global_batch, streams = mesh.replicate * mesh.shard;
  if (batch % streams == 0) return;
  std::string legal;
  for (int64_t n = 1; n <= batch && n <= 64; ++n) {
    if (batch % n == 0) legal += (legal.empty() ? "" : ", ") + std::to_string(n);
  }
  const int64_t sharers = mesh.sequence * mesh.tensor;
  const std::string what = sharers == 1 ? fmt::format("{} trainer ranks", streams)
                                        : fmt::format("{} groups of {} trainer ranks", streams, sharers);
  throw Error(ErrorKind::kConfig, fmt::format("train.global_batch = {} cannot be dealt over {}", batch, what),
              fmt::format("legal {} counts for this batch: {}", sharers == 1 ? "trainer" : "group", legal));
}

void check_precision(const configs::Config& config) {
  const bool is_bf16 = config.train.precision == workers::TrainOptions::Precision::kBf16;
  check(!is_bf16 || config.model.kind == model::ModelKind::kWan, ErrorKind::kConfig,
        "train.precision = bf16 is for Wan transformers; the perceptron is trained in fp32 or fp64");
}

sharding::SplitLimits split_limits(const configs::Config& config) {
  if (config.model.kind != model::ModelKind::kWan) return {};
  return {.heads = config.model.wan.heads, .ffn = config.model.wan.ffn};
}

}  // namespace

void fit_to_data(configs::Config& config, const data::LatentHeader& header) {
  const auto& [channels, frames, height, width] = header.latent_shape;
  if (config.model.kind == model::ModelKind::kMlp) {
    config.model.mlp.values = header.latent_elements();
    return;
  }
  const model::WanConfig& wan = config.model.wan;
  const auto fits = [](const char* what, int64_t in_data, int64_t in_model, const char* key) {
    check(in_data == in_model, ErrorKind::kData,
          fmt::format("the data has {} {}, the model takes {}", in_data, what, in_model),
          fmt::format("set {} = {}, or use data made for this model", key, in_data));
  };
  fits("latent channels", channels, wan.channels, "model.channels");
  fits("text rows", header.text_shape[0], wan.text_length, "model.text_length");
  fits("text features", header.text_shape[1], wan.text_dim, "model.text_dim");
  check(height % 2 == 0 && width % 2 == 0, ErrorKind::kData,
        fmt::format("latents of {} x {} cannot be cut into patches of 2 x 2", height, width));
}

namespace {

// A rank's host and the cores that it may use there: a launcher may have bound it to a few.
struct Binding {
  std::string host;
  std::string cores;  // one character for each core of the host, '1' where it may be used

  static Binding of_this_rank() {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    Binding binding{name, std::string(std::max(1U, std::thread::hardware_concurrency()), '1')};
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return binding;
    binding.cores.assign(CPU_SETSIZE, '0');
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) binding.cores[static_cast<size_t>(core)] = '1';
    }
    return binding;
  }
  std::string text() const { return host + "/" + cores; }
};

// Whole cores that are left for this rank when ranks that may use the same ones share them evenly.
int64_t own_cores(const std::vector<std::string>& all, const Binding& own) {
  double share = 0;
  for (size_t core = 0; core < own.cores.size(); ++core) {
    if (own.cores[core] == '0') continue;
    int64_t users = 0;
    for (const std::string& text : all) {
      const bool is_here = text.starts_with(own.host + "/") && text.size() == own.text().size();
      if (is_here && text[own.host.size() + 1 + core] == '1') ++users;
    }
    share += 1.0 / static_cast<double>(users);
  }
  return std::max<int64_t>(1, static_cast<int64_t>(share + 1e-9));
}

}  // namespace

void require_data(const configs::Config& config) {
  check(!config.data.files.empty(), ErrorKind::kConfig, "data.files is empty",
        "name one or more tmd-latents files: --data.files=FILE");
}

at::ScalarType compute_type(const workers::TrainOptions& options) {
  using Precision = workers::TrainOptions::Precision;
  if (options.precision == Precision::kBf16) return at::kBFloat16;
  return options.precision == Precision::kFp64 ? at::kDouble : at::kFloat;
}

sharding::MeshShape mesh_of(const configs::Config& config, int trainers) {
  const sharding::MeshShape shape = sharding::resolve_mesh(config.mesh, trainers, split_limits(config));
  configs::check_mesh(config, shape);
  return shape;
}

workers::FeedPlan feed_plan(const configs::Config& config, const sharding::MeshShape& mesh, int64_t data_rank,
                            int64_t first_iteration) {
  check_batch(config, mesh);
  const int64_t share = config.train.global_batch / (mesh.replicate * mesh.shard);
  const int64_t micro = config.train.micro_batch == 0 ? share : std::min(share, config.train.micro_batch);
  return {.seed = config.run.seed,
          .first_iteration = first_iteration,
          .last_iteration = config.total_iterations(),
          .global_batch = config.train.global_batch,
          .first_slot = data_rank * share,
          .slots = share,
          .micro_batch = micro};
}

void set_compute_threads(comm::Communicator& trainers, int64_t threads) {
  if (threads == 0) {
    const Binding own = Binding::of_this_rank();
    threads = own_cores(comm::gather_strings(trainers, own.text()), own);
    const char* limit = std::getenv("OMP_NUM_THREADS");
    if (limit && std::atoi(limit) > 0) threads = std::min<int64_t>(threads, std::atoi(limit));
  }
  at::set_num_threads(static_cast<int>(threads));
}

Job::Job(comm::Communicator& world, const configs::Config& config)
    : config_(config), roles_(workers::assign_roles(world, static_cast<int>(config.data_workers))) {
  std::string data_hash;
  sharding::MeshShape shape;
  comm::run_agreed(world, [&] {
    data_ = open_data(config_);
    data_hash = fmt::format("{:x}", data_->data_hash());
    fit_to_data(config_, data_->header());
    check_precision(config_);
    shape = mesh_of(config_, roles_.layout.trainers);
    check_batch(config_, shape);
  });
  comm::agree_equal(world, data_hash, "the content of data.files");
  plan_ = configs::network_plan(config_);
  if (!is_trainer()) return;
  trainers_ = std::make_unique<workers::DeviceGroup>(std::move(roles_.peers), config_.device);
  set_compute_threads(trainers(), config_.train.threads);
  mesh_ = std::make_unique<sharding::Mesh>(shape, trainers());
}

at::ScalarType Job::type() const { return compute_type(config_.train); }

at::Tensor Job::negative_text() const {
  const auto& [rows, features] = data_->header().text_shape;
  // Without dropout and guidance nobody looks at it.
  if (!data_->has_negative_text())
    return at::zeros({1, rows, features}, at::TensorOptions(wide_type()).device(device()));
  return data_->negative_text().text.unsqueeze(0).to(device(), wide_type());
}

std::vector<int64_t> Job::latent_shape() const {
  const auto& shape = data_->header().latent_shape;
  return {shape.begin(), shape.end()};
}

void Job::serve_data() {
  workers::run_data_worker(*roles_.data, *data_, roles_.layout.trainers_of(roles_.data->rank()),
                           StopRequest::signalled);
}

std::unique_ptr<workers::BatchFeed> Job::open_feed(int64_t first_iteration) {
  const workers::FeedPlan plan = feed_plan(config_, mesh_->shape(), mesh_->data_rank(), first_iteration);
  if (roles_.layout.data_workers == 0) {
    return std::make_unique<workers::LocalFeed>(data::DataSet(data::resolve_files(config_.data.files)), plan,
                                                config_.data.prefetch);
  }
  return std::make_unique<workers::RemoteFeed>(*roles_.data, roles_.layout.worker_of(trainers().rank()), plan,
                                               config_.data.prefetch);
}

void Job::close() {
  if (mesh_) mesh_->close();
  roles_.close();
  if (trainers_) trainers_->close();
}

}  // namespace tmd::orchestrator
