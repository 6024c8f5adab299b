#include "orchestrator/dry_run.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/ATen.h>

#include "base/error.h"
#include "model/meta_operators.h"
#include "orchestrator/job.h"
#include "orchestrator/judge.h"
#include "orchestrator/sampling.h"

namespace tmd::orchestrator {

using method::Phase;
using sharding::MemoryCounter;
using workers::NetworkRole;
using workers::Stage;

namespace {

// Micro-batches need the same, but for the rows that stage 1 differentiates and a smaller last one: these
// many stand for all.
constexpr int64_t kMicroBatches = 4;
constexpr int64_t kSampleSteps = 3;  // more steps need no more

at::Tensor on_meta(const std::vector<int64_t>& shape, at::ScalarType type) {
  return at::empty(shape, at::TensorOptions(type).device(at::kMeta));
}

std::vector<int64_t> with_rows(int64_t rows, const auto& shape) {
  std::vector<int64_t> all = {rows};
  all.insert(all.end(), shape.begin(), shape.end());
  return all;
}

// Sizes are known without data: those of the configuration are held against them as a run would.
configs::Config fitted(const configs::Config& config, const workers::SampleShape& sample) {
  configs::Config result = config;
  data::LatentHeader header;
  header.latent_shape = sample.latent;
  header.text_shape = sample.text;
  fit_to_data(result, header);
  return result;
}

comm::FakeWorld rehearsed(const sharding::MeshShape& shape) {
  comm::FakeWorld world(static_cast<int>(shape.ranks()));
  world.as_every_rank([&](comm::Communicator& rank) { sharding::Mesh mesh(shape, rank); });
  return world;
}

}  // namespace

// Members in the order in which they depend on each other. All tensors are gone before the counter is.
struct DryRun::State {
  State(const PlanInput& input, MemoryCounter::Counts counts)
      : counter(counts),
        sample(input.sample),
        config(fitted(input.config, input.sample)),
        plan(configs::network_plan(config)),
        feed(feed_plan(config, mesh_of(config, input.trainers), 0, 1)),
        fake(rehearsed(mesh_of(config, input.trainers))),
        world(fake.communicator(0)),
        mesh(mesh_of(config, input.trainers), *world),
        type(input.type) {
    const sharding::CountInto count(counter);
    networks = std::make_unique<workers::StageNetworks>(plan, config.stages, mesh, type, config.run.seed,
                                                        config.train.keep_blocks, at::kMeta);
    negative_text = on_meta(with_rows(1, sample.text), networks_wide_type());
    trainer = std::make_unique<workers::Trainer>(plan, config.train, config.stages, mesh, config.run.seed,
                                                 *networks, negative_text);
    trainer->set_pair_noise(
        [](const std::vector<int64_t>&, const at::Tensor& like) { return at::empty_like(like); });
    read_ahead();
  }

  // Latents and text come in float32, or wider where the run is.
  at::ScalarType networks_wide_type() const { return type == at::kDouble ? at::kDouble : at::kFloat; }

  // Batches that wait, on the host, besides the one in use: with a reader of one's own also the one that it
  // reads.
  void read_ahead() {
    const sharding::MemoryTag tag(sharding::MemoryItem::kBatch);
    const int64_t others = workers::count_micro_batches(feed) - 1;
    const int64_t ahead = std::min(others, config.data.prefetch + (config.data_workers == 0 ? 1 : 0));
    for (int64_t i = 0; i < ahead; ++i) {
      waiting.push_back(at::empty(with_rows(feed.micro_batch, sample.latent), at::kFloat));
      waiting.push_back(at::empty(with_rows(feed.micro_batch, sample.text), at::kFloat));
    }
  }

  workers::Batch batch(const workers::MicroBatch& place) const {
    const sharding::MemoryTag tag(sharding::MemoryItem::kBatch);
    return {.iteration = place.iteration,
            .first_slot = place.first_slot,
            .latents = on_meta(with_rows(place.rows, sample.latent), at::kFloat),
            .text = on_meta(with_rows(place.rows, sample.text), at::kFloat),
            .samples = std::vector<int64_t>(static_cast<size_t>(place.rows)),
            .bad = {}};
  }

  // Runs `action`, which this object alone allocates for, and says what it needed.
  PhaseNeed measure(const std::function<void()>& action) {
    PhaseNeed need;
    const sharding::CountInto count(counter);
    counter.reset_peak();
    fake.reset_traffic();
    {
      const CountOperators operators(need.cost);
      action();
    }
    need.peak = counter.peak();
    need.traffic = fake.traffic();
    return need;
  }

  MemoryCounter counter;
  const workers::SampleShape sample;
  const configs::Config config;
  const workers::NetworkPlan plan;
  const workers::FeedPlan feed;
  comm::FakeWorld fake;
  std::unique_ptr<comm::Communicator> world;
  sharding::Mesh mesh;
  at::ScalarType type;
  std::unique_ptr<workers::StageNetworks> networks;
  at::Tensor negative_text;
  std::unique_ptr<workers::Trainer> trainer;
  std::vector<at::Tensor> waiting;
};

DryRun::DryRun(const PlanInput& input, MemoryCounter::Counts counts) {
  model::register_meta_operators();
  state_ = std::make_unique<State>(input, counts);
  shape_ = state_->mesh.shape();
}

DryRun::~DryRun() = default;

int64_t DryRun::micro_batches() const { return workers::micro_batches_per_iteration(state_->feed); }

int64_t DryRun::stepped_elements(Phase phase) const {
  int64_t elements = 0;
  for (NetworkRole role : state_->trainer->trained_roles(phase)) {
    const sharding::ShardedNetwork& network = state_->networks->network(role);
    for (int unit = 0; unit < network.units(); ++unit) elements += network.shard(unit).master.numel();
  }
  return elements;
}

void DryRun::enter(Stage stage) {
  const sharding::CountInto count(state_->counter);
  state_->networks->allocate(stage);
}

PhaseNeed DryRun::iterate(Phase phase, int64_t iteration) {
  State& s = *state_;
  const int64_t all = micro_batches(), planned = std::min(all, kMicroBatches);
  PhaseNeed need = s.measure([&] {
    s.networks->buffers().begin_phase(std::string(method::name(phase)));
    for (int64_t i = 0; i < planned; ++i) {
      const int64_t index = i == planned - 1 ? all - 1 : i;  // the last one may be smaller
      workers::MicroBatch place = workers::micro_batch_at(s.feed, index);
      place.iteration = iteration;
      const workers::Batch batch = s.batch(place);
      s.trainer->differentiate(phase, batch, iteration);
    }
    s.networks->buffers().end_phase();
    for (NetworkRole role : s.trainer->trained_roles(phase)) {
      s.networks->network(role).reduce_over_replicas();
    }
    for (NetworkRole role : s.trainer->changed_roles(phase)) {
      s.networks->network(role).publish();  // which a change ends with
    }
  });
  const double factor = static_cast<double>(all) / static_cast<double>(planned);
  need.cost = need.cost.scaled(factor);
  for (auto& [group, traffic] : need.traffic) {
    if (group.first == "replicate") continue;  // once per iteration
    traffic.calls = static_cast<int64_t>(factor * static_cast<double>(traffic.calls));
    traffic.sent_bytes = static_cast<int64_t>(factor * static_cast<double>(traffic.sent_bytes));
  }
  return need;
}

bool DryRun::samples() const {
  const State& s = *state_;
  return s.config.preview.every >= 0 ||
         (judges_by_samples(s.config.judge) && s.networks->has(NetworkRole::kStudent));
}

PhaseNeed DryRun::sample() {
  State& s = *state_;
  const int64_t shown = s.config.preview.every >= 0 ? s.config.preview.prompts : 0;
  const int64_t judged = judges_by_samples(s.config.judge) ? s.config.judge.samples : 0;
  return s.measure([&] {
    const auto request = [&](int64_t rows) {
      return SampleRequest{.text = at::empty(with_rows(rows, s.sample.text), at::kFloat),
                           .negative_text = s.negative_text,
                           .latent_shape = {s.sample.latent.begin(), s.sample.latent.end()},
                           .seed = 0,
                           .first_number = 0,
                           .batch = s.config.sampler.batch};
    };
    configs::SamplerOptions options = s.config.sampler;
    options.steps = std::min(options.steps, kSampleSteps);
    at::Tensor teacher;  // stays beside the student's
    if (shown > 0)
      teacher = sample_teacher(s.plan, s.networks->network(NetworkRole::kTeacher), options, request(shown));
    if (!s.networks->has(NetworkRole::kStudent)) return;
    sample_student(s.plan, s.networks->network(NetworkRole::kStudent), s.config.stages.method,
                   request(std::max(shown, judged)));
  });
}

PhaseNeed DryRun::rest() {
  return state_->measure([] {});
}

}  // namespace tmd::orchestrator
