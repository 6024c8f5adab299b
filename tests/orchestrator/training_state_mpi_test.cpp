// The state of a run, written on one mesh and loaded on another: every pair of meshes of 1 to 4 ranks.

#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/folder.h"
#include "base/hash.h"
#include "mpi_main.h"
#include "orchestrator/training_state.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;
using sharding::MeshShape;
using workers::Stage;

workers::NetworkPlan toy_plan() {
  workers::NetworkPlan plan;
  model::WanConfig& wan = plan.model.wan;
  wan.heads = 12;  // divides by 2, 3 and 4
  wan.head_dim = 6;
  wan.ffn = 84;
  wan.layers = 2;
  wan.channels = 3;
  wan.text_dim = 10;
  wan.text_length = 5;
  wan.freq_dim = 16;
  plan.student.wan = wan;
  plan.student.head_blocks = 1;
  plan.discriminator.channels = wan.width() / 4;
  plan.discriminator.heads = 1;
  plan.discriminator.scales = {1, 2};
  plan.discriminator.hidden = 20;
  plan.feature_blocks = {1};
  return plan;
}

workers::StageOptions toy_options() {
  workers::StageOptions options;
  options.stage2.optimizer.ema = 0.9;
  options.stage2.equation.gan_weight = 0.03;
  return options;
}

std::vector<MeshShape> meshes_of(int64_t ranks) {
  std::vector<MeshShape> list;
  for (int64_t replicate = 1; replicate <= ranks; ++replicate) {
    for (int64_t sequence = 1; sequence <= ranks; ++sequence) {
      for (int64_t tensor = 1; tensor <= ranks; ++tensor) {
        const int64_t rest = replicate * sequence * tensor;
        if (ranks % rest != 0) continue;
        list.push_back({replicate, ranks / rest, sequence, tensor});
        if (replicate > 1) list.push_back({replicate, ranks / rest, sequence, tensor, /*two_level=*/true});
      }
    }
  }
  return list;
}

std::vector<MeshShape> meshes_up_to(int64_t ranks) {
  std::vector<MeshShape> all;
  for (int64_t n = 1; n <= ranks; ++n) {
    for (const MeshShape& shape : meshes_of(n)) all.push_back(shape);
  }
  return all;
}

// Exact in every type: what the elements of a slice of `what` hold.
at::Tensor values_of(const std::string& what, const sharding::Slice& slice) {
  const std::string text = what + slice.name;
  const uint64_t seed = xxh3_64(std::as_bytes(std::span(text)));
  at::Tensor values = at::empty({slice.elements()}, at::kDouble);
  auto* out = values.data_ptr<double>();
  for (int64_t i = 0; i < slice.elements(); ++i) {
    const auto place = static_cast<uint64_t>(slice.place_in_tensor(slice.flat_begin + i));
    out[i] = static_cast<double>(((seed + place) * 0x9e3779b97f4a7c15U >> 57) & 127) / 64 - 1;
  }
  return values;
}

// Networks of stage 2 on the first ranks of the world; nothing on the others.
class State {
 public:
  State(const MeshShape& shape, at::ScalarType type) {
    const bool takes_part = test::world().rank() < shape.ranks();
    group_ = test::world().split(takes_part ? 0 : 1, test::world().rank(), "some ranks");
    if (!takes_part) return;
    mesh_.emplace(shape, *group_);
    networks_.emplace(plan_, options_, *mesh_, type, 1);
  }
  ~State() {
    if (mesh_) mesh_->close();
    group_->close();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  explicit operator bool() const { return networks_.has_value(); }
  workers::StageNetworks& networks() { return *networks_; }
  const sharding::Mesh& mesh() const { return *mesh_; }

  void for_each(const std::function<void(const std::string&, const sharding::Slice&, at::Tensor)>& visit) {
    for (auto& [role, trained] : networks_->all()) {
      for (int unit = 0; unit < trained.network->units(); ++unit) {
        const sharding::UnitShard& shard = trained.network->shard(unit);
        for (const sharding::ShardSegment& segment : shard.segments) {
          const auto part_of = [&](const at::Tensor& flat) {
            return flat.narrow(0, segment.shard_offset, segment.slice.elements());
          };
          visit(name(role) + " w", segment.slice, shard.place(segment, trained.network->layout(unit)));
          if (trained.average) visit(name(role) + " a", segment.slice, part_of(trained.average->shard(unit)));
          if (!trained.optimizer) continue;
          visit(name(role) + " m", segment.slice, part_of(trained.optimizer->first_moment(unit)));
          visit(name(role) + " v", segment.slice, part_of(trained.optimizer->second_moment(unit)));
        }
      }
    }
  }

  void fill() {
    for_each([](const std::string& what, const sharding::Slice& slice, at::Tensor values) {
      values.copy_(values_of(what, slice));
    });
  }

  int64_t wrong_elements() {
    int64_t wrong = 0;
    for_each([&](const std::string& what, const sharding::Slice& slice, at::Tensor values) {
      wrong += values.to(at::kDouble).ne(values_of(what, slice)).sum().item<int64_t>();
    });
    return wrong;
  }

 private:
  const workers::NetworkPlan plan_ = toy_plan();
  const workers::StageOptions options_ = toy_options();
  std::unique_ptr<comm::Communicator> group_;
  std::optional<sharding::Mesh> mesh_;
  std::optional<workers::StageNetworks> networks_;
};

RunCounters some_counters() {
  return {.iteration = 7,
          .student_updates = 2,
          .nonfinite_in_row = 1,
          .nonfinite_total = 3,
          .quarantine = {{17, "a.h5[17]", "not finite"}}};
}

/// The type of the networks, and which of the meshes writes.
class AnyMesh : public testing::TestWithParam<std::tuple<at::ScalarType, int>> {
 protected:
  AnyMesh() : store_(fs::path(testing::TempDir()) / ("tmd_state_" + std::to_string(getppid()))) {
    if (test::world().rank() == 0) create_folders(store_.root());
    test::world().barrier();
  }
  ~AnyMesh() override {
    test::world().barrier();
    if (test::world().rank() == 0) remove_tree(store_.root());
  }

  void save(const MeshShape& shape) {
    State state(shape, std::get<0>(GetParam()));
    if (!state) return;
    state.networks().allocate(Stage::kStage2);
    state.fill();
    begin_checkpoint(store_, state.mesh(), 5, state.networks(), some_counters())->finish();
  }

  void load_and_compare(const MeshShape& written, const MeshShape& shape) {
    State state(shape, std::get<0>(GetParam()));
    if (!state) return;
    const RunCounters counters = load_checkpoint(store_, 7, state.mesh(), state.networks());
    EXPECT_EQ(state.wrong_elements(), 0) << written.to_string() << " loaded on " << shape.to_string();
    EXPECT_EQ(counters.quarantine, some_counters().quarantine);
    EXPECT_EQ(counters.student_updates, 2);
    EXPECT_EQ(state.networks().stage(), Stage::kStage2);
  }

  const checkpoint::Store store_;
};

}  // namespace

// All pairs with TMD_TEST_FULL in the environment, else every fourth.
TEST_P(AnyMesh, loads_what_any_other_has_written_bit_for_bit) {
  const std::vector<MeshShape> shapes = meshes_up_to(test::world().size());
  const auto writer = static_cast<size_t>(std::get<1>(GetParam()));
  if (writer >= shapes.size()) return;  // for more ranks than run this
  save(shapes[writer]);
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (std::getenv("TMD_TEST_FULL") || (writer + i) % 4 == 0) load_and_compare(shapes[writer], shapes[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, AnyMesh,
                         testing::Combine(testing::Values(at::kFloat, at::kBFloat16), testing::Range(0, 25)),
                         [](const auto& type) {
                           return std::string(at::toString(std::get<0>(type.param))) + "_" +
                                  std::to_string(std::get<1>(type.param));
                         });

}  // namespace tmd::orchestrator
