// The exact derivative of a real flow head, by forward-mode differentiation through gathered units, against
// finite differences: their error falls with the square of the step until rounding.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "../model/integer_hash.h"
#include "../support/test_mesh.h"
#include "base/error.h"
#include "base/hash.h"
#include "method/derivative.h"
#include "sharding/initialise.h"
#include "workers/networks.h"

namespace tmd::method {
namespace {

at::Tensor times(std::initializer_list<double> values) {
  return at::tensor(std::vector<double>(values), at::kDouble);
}

// By name, since the order of parameters differs between types.
void fill(sharding::ShardedNetwork& network, double size) {
  sharding::fill_slices(network, [&](const sharding::Slice& slice, at::Tensor out) {
    const uint64_t number = xxh3_64(std::as_bytes(std::span(slice.name))) % 1'000'000;
    out.copy_(test::hashed_tensor(number, {slice.elements()}, size));
  });
}

workers::NetworkPlan wan_plan(model::Fusion fusion) {
  workers::NetworkPlan plan;
  plan.model.wan = {
      .heads = 2, .head_dim = 12, .ffn = 32, .layers = 3, .channels = 2, .text_dim = 6, .text_length = 3};
  plan.student.wan = plan.model.wan;
  plan.student.fusion = fusion;
  plan.student.head_blocks = fusion == model::Fusion::kNone ? 3 : 1;
  return plan;
}

struct Student {
  explicit Student(const workers::NetworkPlan& plan, at::ScalarType type = at::kDouble)
      : network("student", plan.student_units(), one.mesh, type, true, one.buffers) {
    fill(network, 0.3);
    view = workers::student_view(plan, network, true);
  }

  test::SingleMesh one;
  sharding::ShardedNetwork network;
  std::unique_ptr<StudentNetwork> view;
};

struct Problem {
  at::Tensor y, v, text, s = times({0.5, 0.93}), r = times({0.0, 0.908});
};

Problem problem(at::IntArrayRef shape) {
  return {test::hashed_tensor(101, shape), test::hashed_tensor(102, shape),
          test::hashed_tensor(103, {2, 3, 6})};
}

// Largest errors of finite differences with steps that halve.
std::vector<double> errors(const AlongPath& f, const Problem& p, const at::Tensor& exact) {
  std::vector<double> list;
  for (double delta = 1e-5; list.size() < 4; delta /= 2) {
    const at::Tensor step = at::full({2}, delta, at::kDouble);
    list.push_back((finite_difference(f, p.y, p.v, p.s, {step, step}) - exact).abs().max().item<double>());
  }
  return list;
}

void expect_second_order(const AlongPath& f, const Problem& p, double smallest_size) {
  const at::Tensor exact = exact_derivative(f, p.y, p.v, p.s);
  EXPECT_GT(exact.abs().max().item<double>(), smallest_size) << "nothing is tested";
  const std::vector<double> found = errors(f, p, exact);
  for (size_t i = 1; i < found.size(); ++i)
    EXPECT_NEAR(found[i - 1] / found[i], 4, 0.2) << "errors " << found[i - 1] << ", " << found[i];
  EXPECT_LT(found.back(), 1e-3 * exact.abs().max().item<double>());
}

}  // namespace

TEST(ExactDerivative, of_the_flow_head_is_the_limit_of_finite_differences) {
  for (const model::Fusion fusion : {model::Fusion::kGated, model::Fusion::kConcat}) {
    const workers::NetworkPlan plan = wan_plan(fusion);
    const Student student(plan);
    const auto& view = student.view;
    const Problem p = problem({2, 2, 1, 2, 4});
    const at::NoGradGuard no_grad;
    const auto m = view->backbone(p.y, times({0.9, 0.999}), p.text);

    expect_second_order([&](const at::Tensor& y, const at::Tensor& s) { return view->head(y, s, p.r, m); }, p,
                        1e-2);
  }
}

TEST(ExactDerivative, of_a_mean_flow_student_goes_through_all_blocks) {
  const workers::NetworkPlan plan = wan_plan(model::Fusion::kNone);
  const Student student(plan);
  const auto& view = student.view;
  const Problem p = problem({2, 2, 1, 2, 4});
  const at::NoGradGuard no_grad;
  const auto m = view->backbone(p.y, p.s, p.text);

  expect_second_order([&](const at::Tensor& x, const at::Tensor& t) { return view->head(x, t, p.r, m); }, p,
                      1e-2);
}

TEST(ExactDerivative, of_the_perceptron_in_both_forms) {
  for (const model::Fusion fusion : {model::Fusion::kGated, model::Fusion::kNone}) {
    workers::NetworkPlan plan;
    plan.model.kind = model::ModelKind::kMlp;
    plan.student.fusion = fusion;
    const Student student(plan);
    const auto& view = student.view;
    const Problem p = problem({2, 2, 1, 1, 1});
    const at::NoGradGuard no_grad;
    const auto m = view->backbone(p.y, times({0.9, 0.999}), p.text);
    const AlongPath f = [&](const at::Tensor& y, const at::Tensor& s) { return view->head(y, s, p.r, m); };

    const at::Tensor exact = exact_derivative(f, p.y, p.v, p.s);

    const at::Tensor step = at::full({2}, 1e-5, at::kDouble);
    const at::Tensor difference = finite_difference(f, p.y, p.v, p.s, {step, step});
    EXPECT_LT((exact - difference).abs().max().item<double>(), 1e-6 * exact.abs().max().item<double>());
  }
}

// The operations that stand in for the fused ones round as those do.
TEST(ExactDerivative, in_float32_and_bfloat16_is_that_of_float64_rounded) {
  const workers::NetworkPlan plan = wan_plan(model::Fusion::kGated);
  const auto derivative = [&](at::ScalarType type) {
    const Student student(plan, type);
    const auto& view = student.view;
    Problem p = problem({2, 2, 1, 2, 4});
    const at::ScalarType wide = student.network.wide_type();
    p.y = p.y.to(wide), p.v = p.v.to(wide), p.text = p.text.to(wide);
    const at::NoGradGuard no_grad;
    const auto m = view->backbone(p.y, times({0.9, 0.999}), p.text);
    const AlongPath f = [&](const at::Tensor& y, const at::Tensor& s) { return view->head(y, s, p.r, m); };
    return exact_derivative(f, p.y, p.v, p.s).to(at::kDouble);
  };
  const at::Tensor reference = derivative(at::kDouble);
  const auto distance = [&](at::ScalarType type) {
    return ((derivative(type) - reference).norm() / reference.norm()).item<double>();
  };
  EXPECT_LT(distance(at::kFloat), 1e-4);
  EXPECT_LT(distance(at::kBFloat16), 0.1);
}

TEST(ExactDerivative, refuses_to_lose_a_graph) {
  const workers::NetworkPlan plan = wan_plan(model::Fusion::kGated);
  const Student student(plan);
  const auto& view = student.view;
  const Problem p = problem({2, 2, 1, 2, 4});
  const auto m = view->backbone(p.y, times({0.9, 0.999}), p.text);
  const AlongPath with_graph = [&](const at::Tensor& y, const at::Tensor& s) {
    const at::AutoGradMode enable(true);
    return view->head(y, s, p.r, m);
  };
  EXPECT_THROW(exact_derivative(with_graph, p.y, p.v, p.s), Error);
}

}  // namespace tmd::method
