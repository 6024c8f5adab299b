#include "case_runner.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <spdlog/fmt/fmt.h>

#include "base/safetensors.h"
#include "comm/agree.h"
#include "method/grids.h"
#include "method/samplers.h"
#include "model/wan_ops.h"
#include "model/weights_file.h"
#include "sharding/token_exchange.h"

namespace tmd::golden {

using nlohmann::json;

namespace {

constexpr double kLimitF64 = 1e-10, kLimitF32 = 2e-5, kLimitSensitive = 1e-4;

}  // namespace

CaseRunner::CaseRunner(const GoldenCase& golden, comm::Communicator& world, at::ScalarType type,
                       const sharding::MeshShape& mesh)
    : case_(golden), world_(world), type_(type), mesh_(mesh, world) {}

CaseRunner::Share CaseRunner::share_of(int64_t rows) const {
  const int64_t streams = mesh_.data_ranks(), each = (rows + streams - 1) / streams;
  std::vector<int64_t> index;
  std::vector<double> weight;
  for (int64_t k = 0; k < each; ++k) {
    const int64_t row = mesh_.data_rank() * each + k;
    index.push_back(row < rows ? row : 0);
    weight.push_back(row < rows ? 1.0 / static_cast<double>(rows) : 0.0);
  }
  return {at::tensor(index, at::kLong), at::tensor(weight, at::kDouble), rows};
}

at::Tensor CaseRunner::collect(const Share& share, const at::Tensor& local) {
  const at::Tensor mine = local.detach().to(at::kDouble).contiguous();
  std::vector<int64_t> shape = mine.sizes().vec();
  shape.insert(shape.begin(), {mesh_.data_ranks(), mesh_.sample_group().size()});
  const at::Tensor all = at::empty(shape, at::kDouble);
  world_.all_gather(mine, all).wait();
  return all.select(1, 0).flatten(0, 1).narrow(0, 0, share.total);
}

at::Tensor CaseRunner::whole_tokens(const at::Tensor& rows) const {
  const int64_t tokens = model::token_grid(case_.draws.at("s1.x")).tokens();
  return sharding::TokenExchange(mesh_, tokens, nullptr).whole(rows.detach());
}

at::Tensor CaseRunner::draw(const Share& share, const std::string& name) const {
  return case_.draws.at(name).index_select(0, share.rows);
}

std::unique_ptr<sharding::ShardedNetwork> CaseRunner::network(const std::string& name, bool trainable) {
  const auto units = name == "student" ? case_.plan.student_units()
                     : name == "disc"  ? case_.plan.discriminator_units()
                                       : case_.plan.velocity_units();
  auto network = std::make_unique<sharding::ShardedNetwork>(name, units, mesh_, type_, trainable, buffers_);
  model::load_weights(*network, SafetensorsSet(case_.folder / (name + ".safetensors")));
  return network;
}

double CaseRunner::limit(const std::string& name) const {
  if (type_ == at::kDouble) return kLimitF64;
  const bool sensitive =
      name.find("fusion.gate") != std::string::npos || name.find("loss_r1") != std::string::npos;
  return sensitive ? kLimitSensitive : kLimitF32;
}

void CaseRunner::compare(const std::string& name, const at::Tensor& actual) {
  const auto found = case_.expected.find(name);
  if (found == case_.expected.end()) return;
  seen_[name] = true;
  comparison_.add(name, found->second, actual, limit(name));
}

void CaseRunner::compare_scalar(const std::string& name, double actual) {
  compare(name, at::scalar_tensor(actual, at::kDouble));
  const json& scalars = case_.json.at("scalars");
  if (scalars.contains(name))
    comparison_.add(name + " (case.json)", scalars.at(name).get<double>(), actual, limit(name));
}

void CaseRunner::compare_gradients(const std::string& prefix, sharding::ShardedNetwork& network,
                                   const std::string& norms_key, const std::string& norms_prefix) {
  network.reduce_over_replicas();
  const json& norms = case_.json.at(norms_key);
  for (int unit = 0; unit < network.units(); ++unit) {
    for (const sharding::ParamSpec& param : network.spec(unit).params) {
      const at::Tensor gradient = network.full_gradient(param.name);
      compare(prefix + param.name, gradient);
      const std::string norm_name = norms_prefix + param.name;
      if (!norms.contains(norm_name)) {
        comparison_.missing(norms_key + "." + norm_name);
        continue;
      }
      const double expected = norms.at(norm_name);
      comparison_.add(norms_key + "." + norm_name, expected, gradient.norm().item<double>(),
                      limit(param.name));
      if (gradient.numel() == 1) {
        const json& scalars = case_.json.at("scalars");
        if (scalars.contains(prefix + param.name)) {
          comparison_.add(prefix + param.name + " (case.json)", scalars.at(prefix + param.name).get<double>(),
                          gradient.item<double>(), limit(param.name));
        }
      }
    }
  }
}

double CaseRunner::mean(const Share& share, const at::Tensor& per_sample) {
  double sum = (share.weights * per_sample.detach().to(at::kDouble)).sum().item<double>();
  comm::sum(world_, std::span<double>(&sum, 1));
  return sum / mesh_.sample_group().size();
}

double CaseRunner::backward(const Share& share, const at::Tensor& per_sample) {
  (share.weights * per_sample).sum().backward();
  return mean(share, per_sample);
}

void CaseRunner::check_grids() {
  const auto vector_of = [](const json& list) {
    return at::tensor(list.get<std::vector<double>>(), at::kDouble);
  };
  comparison_.add("grid_t", vector_of(case_.json.at("grid_t")), at::tensor(case_.stage1.grid_t, at::kDouble),
                  1e-12);
  comparison_.add("grid_s", vector_of(case_.json.at("grid_s")), at::tensor(case_.stage1.grid_s, at::kDouble),
                  1e-12);
  for (const auto& [name, list] : case_.json.at("sigmas").items()) {
    const auto sigmas = method::teacher_sigmas(static_cast<int>(list.size()) - 1, 5, method::SigmaGrid::kWan);
    comparison_.add("sigmas." + name, vector_of(list), at::tensor(sigmas, at::kDouble), 1e-12);
  }
  if (case_.gan && case_.json.contains("disc")) {
    const json& disc = case_.json.at("disc");
    comparison_.add("disc.groups", disc.at("groups").get<double>(),
                    static_cast<double>(case_.plan.discriminator.groups()), 0);
    comparison_.add("disc.channels", disc.at("channels").get<double>(),
                    static_cast<double>(case_.plan.discriminator.channels), 0);
  }
}

method::Stage1Draws CaseRunner::stage1_draws(const Share& share) const {
  return {.x_1 = draw(share, "s1.x1"),
          .y_1 = draw(share, "s1.y1"),
          .outer_index = draw(share, "s1.i"),
          .s_uniform = draw(share, "s1.u"),
          .flow_matching = draw(share, "s1.fm").to(at::kBool),
          .drop_condition = draw(share, "s1.drop").to(at::kBool)};
}

method::Stage1Result CaseRunner::run_stage1(sharding::ShardedNetwork& student, const Share& share) {
  const auto view = workers::student_view(case_.plan, student, /*weight_gradients=*/true);
  return method::stage1(*view, draw(share, "s1.x"), draw(share, "s1.text"), case_.draws.at("text_neg"),
                        stage1_draws(share), case_.stage1,
                        [this](bool here) { return comm::agree_any(world_, here); });
}

void CaseRunner::check_stage1() {
  const auto student = network("student", true);
  const Share share = share_of(case_.draws.at("s1.x").size(0));
  const method::Stage1Result result = run_stage1(*student, share);
  const std::map<std::string, at::Tensor> values = {{"Dh", result.derivative},
                                                    {"S", result.S},
                                                    {"fd_minus", result.difference.minus},
                                                    {"fd_plus", result.difference.plus},
                                                    {"h", result.head},
                                                    {"m", whole_tokens(result.m.tokens)},
                                                    {"r", result.r},
                                                    {"s", result.s},
                                                    {"t", result.t},
                                                    {"target", result.target},
                                                    {"v", result.tangent},
                                                    {"x_t", result.x_t},
                                                    {"y_g", result.y_guided},
                                                    {"y_s", result.y_s}};
  for (const auto& [name, value] : values) {
    at::Tensor all = collect(share, value);
    // The case stores the backward side as a negative offset.
    if (name == "fd_minus") all = -all;
    compare("s1." + name, all);
  }
  const at::Tensor plus = collect(share, result.difference.plus),
                   minus = collect(share, result.difference.minus);
  const json& rules = case_.json.at("s1.fd");
  for (int64_t i = 0; i < share.total; ++i) {
    const bool forward = plus[i].item<double>() > 0, back = minus[i].item<double>() > 0;
    const std::string rule = forward && back ? "central" : forward ? "forward" : back ? "backward" : "none";
    comparison_.add(fmt::format("s1.fd rule of sample {}", i), 0,
                    rule == rules[static_cast<size_t>(i)][0] ? 0 : 1, 0);
  }
  compare_scalar("s1.loss", backward(share, result.loss));
  compare_gradients("s1.grad.", *student, "s1.grad_l2", "");
}

void CaseRunner::check_adamw() {
  if (!case_.json.contains("s1.adamw")) return;
  const json& expected = case_.json.at("s1.adamw");
  const auto student = network("student", true);
  sharding::AdamW adamw(*student);
  const Share share = share_of(case_.draws.at("s1.x").size(0));
  sharding::AdamWOptions options{.lr = expected.at("lr"),
                                 .beta1 = expected.at("betas")[0],
                                 .beta2 = expected.at("betas")[1],
                                 .epsilon = expected.at("eps"),
                                 .weight_decay = expected.at("weight_decay")};
  const bool gated = case_.plan.student.fusion == model::Fusion::kGated;
  int step = 0;
  for (const json& row : expected.at("steps")) {
    const std::string name = fmt::format("s1.adamw step {} ", ++step);
    student->zero_gradients();
    comparison_.add(name + "loss", row.at("loss").get<double>(),
                    backward(share, run_stage1(*student, share).loss), limit("loss"));
    student->reduce_over_replicas();
    const double norm = sharding::gradient_norm({student.get()});
    comparison_.add(name + "grad_norm", row.at("grad_norm").get<double>(), norm, limit("norm"));
    adamw.step(options, sharding::clip_factor(norm, expected.at("clip")));
    if (gated) {
      comparison_.add(name + "gate", row.at("gate_after").get<double>(),
                      student->full_parameter("tmd.fusion.gate").item<double>(), limit("gate_after"));
    }
  }
  comparison_.add("s1.adamw loss_after", expected.at("loss_after").get<double>(),
                  mean(share, run_stage1(*student, share).loss), limit("loss"));
  for (const auto& [name, norm] : expected.at("param_l2_after").items()) {
    comparison_.add("s1.adamw " + name, norm.get<double>(),
                    student->full_parameter(name).norm().item<double>(), limit(name));
  }
}

method::Stage2Draws CaseRunner::stage2_draws(const Share& share, const std::string& prefix) const {
  method::Stage2Draws draws{.x_1 = draw(share, prefix + "x1"),
                            .y_1 = draw(share, prefix + "y1"),
                            .epsilon = draw(share, prefix + "eps"),
                            .outer_index = draw(share, prefix + "i"),
                            .td_uniform = draw(share, prefix + "ud"),
                            .keep_fake = {},
                            .keep_real = {},
                            .r1_noise = {}};
  for (size_t head = 0; case_.draws.contains(fmt::format("{}drop_fake.{}", prefix, head)); ++head) {
    draws.keep_fake.push_back(draw(share, fmt::format("{}drop_fake.{}", prefix, head)).to(type_));
    draws.keep_real.push_back(draw(share, fmt::format("{}drop_real.{}", prefix, head)).to(type_));
  }
  if (case_.draws.contains(prefix + "r1_noise")) draws.r1_noise = draw(share, prefix + "r1_noise");
  return draws;
}

void CaseRunner::check_student_step() {
  const auto student = network("student", true), teacher = network("teacher", false),
             fake = network("fake", false);
  const auto disc = case_.gan ? network("disc", false) : nullptr;
  const Share share = share_of(case_.draws.at("s2s.x").size(0));
  const auto teacher_view = workers::velocity_view(case_.plan, *teacher, false);
  const auto fake_view = workers::velocity_view(case_.plan, *fake, false);
  const auto disc_view = disc ? workers::discriminator_view(case_.plan, *disc, false) : nullptr;
  const auto student_view = workers::student_view(case_.plan, *student, true);
  method::TmdGenerator generator(*student_view, case_.stage1.grid_s);
  method::InnerTrace trace;
  generator.set_trace(&trace);
  method::StudentStep step = method::student_step(
      generator, *teacher_view, *fake_view, disc_view.get(), draw(share, "s2s.x"), draw(share, "s2s.text"),
      case_.draws.at("text_neg"), stage2_draws(share, "s2s."), case_.stage2);
  at::Tensor x_hat = step.sample.x_hat;
  x_hat.retain_grad();
  const double loss = backward(share, step.loss);
  const method::StudentSample& sample = step.sample;
  std::map<std::string, at::Tensor> values = {{"t", sample.t},
                                              {"td", sample.td},
                                              {"x_t", sample.x_t},
                                              {"y_hat", sample.y_hat},
                                              {"x_hat", sample.x_hat},
                                              {"xh_t", sample.xh_t},
                                              {"gF", step.g_fake},
                                              {"gT", step.g_teacher},
                                              {"vsd_weight", step.vsd_weight},
                                              {"grad.x_hat", x_hat.grad()}};
  if (disc) values["logits_fake"] = step.logits_fake;
  for (const auto& [name, value] : values) compare("s2s." + name, collect(share, value));
  const auto collect_steps = [&](const std::vector<at::Tensor>& list) {
    std::vector<at::Tensor> all;
    for (const at::Tensor& item : list) all.push_back(collect(share, item));
    return at::stack(all, 0);
  };
  compare("s2s.inner_heads", collect_steps(trace.heads));
  compare("s2s.inner_states", collect_steps(trace.states));
  compare_scalar("s2s.loss", loss);
  compare_scalar("s2s.loss_vsd", mean(share, step.vsd));
  if (disc) compare_scalar("s2s.loss_gan", mean(share, step.gan));
  compare_gradients("s2s.grad.", *student, "s2s.grad_l2", "");
}

void CaseRunner::check_critic_step() {
  const auto student = network("student", false), teacher = network("teacher", false),
             fake = network("fake", true);
  const auto disc = case_.gan ? network("disc", true) : nullptr;
  const Share share = share_of(case_.draws.at("s2c.x").size(0));
  const auto teacher_view = workers::velocity_view(case_.plan, *teacher, false);
  const auto fake_view = workers::velocity_view(case_.plan, *fake, true);
  const auto disc_view = disc ? workers::discriminator_view(case_.plan, *disc, true) : nullptr;
  const auto student_view = workers::student_view(case_.plan, *student, false);
  method::TmdGenerator generator(*student_view, case_.stage1.grid_s);
  const auto critic = [&](const method::Stage2Options& options) {
    return method::critic_step(generator, *teacher_view, *fake_view, disc_view.get(), draw(share, "s2c.x"),
                               draw(share, "s2c.text"), stage2_draws(share, "s2c."), options);
  };
  const method::CriticStep step = critic(case_.stage2);
  compare_scalar("s2c.loss", backward(share, step.loss));
  const method::StudentSample& sample = step.sample;
  std::map<std::string, at::Tensor> values = {
      {"t", sample.t},         {"td", sample.td},     {"x_t", sample.x_t},    {"y_hat", sample.y_hat},
      {"x_hat", sample.x_hat}, {"xh_t", sample.xh_t}, {"g_fake", step.g_fake}};
  if (disc) {
    values["logits_fake"] = step.logits_fake;
    values["logits_real"] = step.logits_real;
  }
  for (const auto& [name, value] : values) compare("s2c." + name, collect(share, value));
  compare_scalar("s2c.loss_fake", mean(share, step.fake));
  compare_gradients("s2c.fake.grad.", *fake, "s2c.fake.grad_l2", "");
  if (!disc) return;
  compare_scalar("s2c.loss_disc", mean(share, step.discriminator));
  compare_gradients("s2c.disc.grad.", *disc, "s2c.disc.grad_l2", "");
  if (case_.draws.contains("s2c.r1_noise")) {  // reported by the case, not part of its loss
    method::Stage2Options with_r1 = case_.stage2;
    with_r1.r1_weight = 1;
    with_r1.r1_sigma = case_.r1_sigma;
    const at::NoGradGuard no_grad;
    compare_scalar("s2c.loss_r1", mean(share, critic(with_r1).r1));
  }
}

void CaseRunner::check_samplers() {
  if (!case_.draws.contains("sample.x")) return;
  const auto teacher = network("teacher", false), fake = network("fake", false);
  const auto teacher_view = workers::velocity_view(case_.plan, *teacher, false);
  const auto fake_view = workers::velocity_view(case_.plan, *fake, false);
  const at::Tensor &x = case_.draws.at("sample.x"), &text = case_.draws.at("sample.text"),
                   &negative = case_.draws.at("text_neg");
  std::vector<at::Tensor> states;
  const auto observe = [&states](int, const at::Tensor& state) { states.push_back(state); };
  const auto finish = [&](const std::string& name) {
    compare("sample." + name, at::stack(states, 0));
    states.clear();
  };
  const auto sigmas = [](int steps) { return method::teacher_sigmas(steps, 5, method::SigmaGrid::kWan); };
  method::sample_euler(*teacher_view, x, text, negative, sigmas(5), {.cfg = 5}, observe);
  finish("euler5");
  method::sample_euler(*teacher_view, x, text, negative, sigmas(5),
                       {.cfg = 5, .model_time = method::ModelTime::kExact}, observe);
  finish("euler5_exact_t");
  method::sample_unipc(*teacher_view, x, text, negative, sigmas(6), {.cfg = 5}, observe);
  finish("unipc6");
  method::VelocityGenerator dmd2v(*fake_view);  // the case samples DMD2-v with the weights of the fake score
  method::sample_student_steps(
      dmd2v, x, text, case_.stage1.grid_t, method::OuterStep::kDeterministic,
      [](int) { return at::Tensor(); }, {}, observe);
  finish("dmd2v");
}

void CaseRunner::check_student_sampler() {
  if (!case_.draws.contains("sample.y1")) return;
  const auto student = network("student", false);
  const auto view = workers::student_view(case_.plan, *student, false);
  method::TmdGenerator generator(*view, case_.stage1.grid_s);
  std::vector<at::Tensor> states;
  method::sample_student_steps(
      generator, case_.draws.at("sample.x"), case_.draws.at("sample.text"), case_.stage1.grid_t,
      method::OuterStep::kDeterministic, [this](int i) { return case_.draws.at("sample.y1")[i - 1]; }, {},
      [&states](int, const at::Tensor& state) { states.push_back(state); });
  compare("sample.student", at::stack(states, 0));
}

Comparison CaseRunner::run() {
  check_grids();
  check_stage1();
  check_adamw();
  check_student_step();
  check_critic_step();
  check_samplers();
  check_student_sampler();
  for (const auto& [name, tensor] : case_.expected) {
    if (!seen_.contains(name)) comparison_.missing(name);
  }
  mesh_.close();
  return std::move(comparison_);
}

}  // namespace tmd::golden
