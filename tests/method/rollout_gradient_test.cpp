// The rollout's gradient on a real, small student: finite differences of x_hat in a backbone weight for N
// = 2.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "../model/integer_hash.h"
#include "../support/test_mesh.h"
#include "method/generator.h"
#include "method/grids.h"
#include "sharding/initialise.h"
#include "workers/networks.h"

namespace tmd::method {

TEST(Rollout, gradient_of_a_backbone_weight_equals_finite_differences) {
  workers::NetworkPlan plan;
  plan.model.wan = {
      .heads = 2, .head_dim = 12, .ffn = 32, .layers = 3, .channels = 2, .text_dim = 6, .text_length = 3};
  plan.student.wan = plan.model.wan;
  plan.student.head_blocks = 1;
  test::SingleMesh one;
  sharding::ShardedNetwork network("student", plan.student_units(), one.mesh, at::kDouble, true, one.buffers);
  sharding::fill_slices(network, [k = uint64_t{0}](const sharding::Slice& slice, at::Tensor out) mutable {
    out.copy_(test::hashed_tensor(++k, {slice.elements()}, 0.3));
  });
  const auto view = workers::student_view(plan, network, true);
  TmdGenerator generator(*view, student_grid(2, 10));
  const at::Tensor x = test::hashed_tensor(100, {1, 2, 1, 2, 4}),
                   y_1 = test::hashed_tensor(101, {1, 2, 1, 2, 4});
  const at::Tensor text = test::hashed_tensor(102, {1, 3, 6}),
                   weights = test::hashed_tensor(103, {1, 2, 1, 2, 4});
  const auto value = [&] {
    return (generator.outer_velocity(x, at::full({1}, 0.908, at::kDouble), {}, text, y_1) * weights).sum();
  };

  value().backward();
  for (const char* name : {"blocks.0.self_attn.q.weight", "blocks.0.ffn.2.bias", "blocks.2.ffn.0.weight",
                           "patch_embedding.weight"}) {
    const at::Tensor gradient = network.full_gradient(name).flatten();
    const double h = 1e-5;
    const int64_t element = gradient.abs().argmax().item<int64_t>();
    const auto nudge = [&](double by) {
      sharding::fill_slices(network, [&](const sharding::Slice& slice, at::Tensor out) {
        if (slice.name == name) out[element].add_(by);
      });
    };
    const at::NoGradGuard no_grad;
    nudge(h);
    const double up = value().item<double>();
    nudge(-2 * h);
    const double down = value().item<double>();
    nudge(h);
    EXPECT_NEAR(gradient[element].item<double>(), (up - down) / (2 * h), 1e-6) << name;
  }
}

}  // namespace tmd::method
