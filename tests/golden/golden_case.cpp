#include "golden_case.h"

#include <fstream>
#include <set>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/safetensors.h"
#include "method/grids.h"

namespace tmd::golden {
namespace {

using nlohmann::json;

void check_keys(const json& object, const std::set<std::string>& known, const std::string& where) {
  for (const auto& [key, value] : object.items()) {
    check(known.contains(key), ErrorKind::kData, fmt::format("{}: unknown key {}", where, key),
          "this program must learn the key before it can check the case");
  }
}

template <class Enum>
Enum choose(const json& config, const std::string& key, const std::map<std::string, Enum>& values) {
  const std::string text = config.at(key);
  const auto found = values.find(text);
  check(found != values.end(), ErrorKind::kData, fmt::format("case.json: {} = {} is not known", key, text));
  return found->second;
}

void read_model(GoldenCase& c) {
  const json& config = c.json.at("config");
  const json& wan = config.at("wan");
  check_keys(wan,
             {"channels", "eps", "ffn", "freq_dim", "head_dim", "heads", "layers", "text_dim", "text_len"},
             "case.json config.wan");
  model::WanConfig& w = c.plan.model.wan;
  w.channels = wan.at("channels");
  w.epsilon = wan.at("eps");
  w.ffn = wan.at("ffn");
  w.freq_dim = wan.at("freq_dim");
  w.head_dim = wan.at("head_dim");
  w.heads = wan.at("heads");
  w.layers = wan.at("layers");
  w.text_dim = wan.at("text_dim");
  w.text_length = wan.at("text_len");
  c.plan.student.wan = w;
  c.plan.student.head_blocks = config.at("H");
  c.plan.student.fusion = choose<model::Fusion>(
      config, "fusion", {{"gated", model::Fusion::kGated}, {"concat", model::Fusion::kConcat}});
  c.gan = config.at("gan").get<double>() > 0;
  if (!c.gan) return;
  c.plan.feature_blocks = config.at("feats").get<std::vector<int64_t>>();
  c.plan.discriminator = {.channels = w.width() / 4,
                          .heads = static_cast<int64_t>(c.plan.feature_blocks.size()),
                          .scales = config.at("scales").get<std::vector<int64_t>>(),
                          .hidden = config.at("disc_hidden"),
                          .dropout = config.at("disc_dropout")};
}

// The gate's own learning rate and decay belong to the network's parameter list.
void read_optimizer(GoldenCase& c) {
  if (!c.json.contains("s1.adamw")) return;
  const json& adamw = c.json.at("s1.adamw");
  check_keys(adamw,
             {"betas", "clip", "eps", "gate_lr_mult", "gate_weight_decay", "loss_after", "lr",
              "param_l2_after", "steps", "weight_decay"},
             "case.json s1.adamw");
  for (const json& step : adamw.at("steps")) {
    check_keys(step, {"gate_after", "grad_norm", "loss"}, "case.json s1.adamw.steps");
  }
  c.plan.student.gate_lr_multiplier = adamw.value("gate_lr_mult", c.plan.student.gate_lr_multiplier);
  check(adamw.value("gate_weight_decay", 0.0) == 0, ErrorKind::kData,
        "case.json: s1.adamw.gate_weight_decay is not 0: the gate of this program never decays");
}

void read_method(GoldenCase& c) {
  const json& config = c.json.at("config");
  c.method.outer_steps = config.at("M");
  c.method.inner_steps = config.at("N");
  c.method.outer_shift = config.at("outer_shift");
  c.method.inner_shift = config.at("inner_shift");
  const double t_max = config.at("t_max"), t_low = config.at("t_lo");
  const auto grid_t =
      method::student_grid(static_cast<int>(c.method.outer_steps), c.method.outer_shift, t_max);
  const auto grid_s =
      method::student_grid(static_cast<int>(c.method.inner_steps), c.method.inner_shift, t_max);
  c.stage1.grid_t = grid_t;
  c.stage1.grid_s = grid_s;
  c.stage1.s_shift = config.at("s_shift");
  c.stage1.s_low = t_low;
  c.stage1.s_high = t_max;
  c.stage1.derivative_low = config.at("t_min");
  c.stage1.delta = config.at("delta");
  c.stage1.cfg = config.at("cfg1");
  c.stage1.loss_c = config.at("loss_c").get<double>() * c.json.at("d").get<double>();
  c.stage1.tangent = choose<method::Tangent>(
      config, "tangent", {{"guided", method::Tangent::kGuided}, {"plain", method::Tangent::kPlain}});
  c.stage2.grid_t = grid_t;
  c.stage2.x_hat = choose<method::XHat>(config, "xhat",
                                        {{"xt_minus_ty", method::XHat::kXtMinusTy},
                                         {"x1_minus_y", method::XHat::kX1MinusY},
                                         {"x1_minus_yhat", method::XHat::kX1MinusY}});
  c.stage2.cfg = config.at("cfg2");
  c.stage2.td_shift = config.at("td_shift");
  c.stage2.td_low = t_low;
  c.stage2.td_high = t_max;
  c.stage2.vsd_norm =
      choose<method::VsdNorm>(config, "vsd_norm",
                              {{"x_minus_teacher", method::VsdNorm::kXMinusTeacher},
                               {"fake_minus_teacher", method::VsdNorm::kFakeMinusTeacher},
                               {"fake_minus_teacher_l1", method::VsdNorm::kFakeMinusTeacher}});
  c.stage2.gan_weight = config.at("gan");
  if (c.json.contains("r1_sigma")) c.r1_sigma = c.json.at("r1_sigma");
}

// Draws that stand for latents, noise and text take the compute type; times stay float64.
at::ScalarType draw_type(const at::Tensor& stored, at::ScalarType type) {
  return stored.scalar_type() == at::kDouble ? at::kDouble : type;
}

}  // namespace

TensorMap read_tensors(const std::filesystem::path& path, at::ScalarType type) {
  static const std::map<std::string, at::ScalarType> types = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"I64", at::kLong}};
  const SafetensorsFile file(path);
  TensorMap tensors;
  for (const SafetensorsEntry& entry : file.entries()) {
    const auto found = types.find(entry.dtype);
    check(found != types.end(), ErrorKind::kData,
          fmt::format("{}: {} is {}", path.string(), entry.name, entry.dtype));
    at::Tensor tensor = at::empty(entry.shape, found->second);
    file.read(entry, 0, std::span(static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()));
    tensors[entry.name] = tensor.is_floating_point() ? tensor.to(draw_type(tensor, type)) : tensor;
  }
  return tensors;
}

GoldenCase read_case(const std::filesystem::path& folder, at::ScalarType type) {
  GoldenCase c;
  c.folder = folder;
  std::ifstream stream(folder / "case.json");
  check(stream.good(), ErrorKind::kData, fmt::format("cannot open {}", (folder / "case.json").string()));
  c.json = json::parse(stream);
  check_keys(c.json,
             {"config", "d", "disc", "fp32_rel_l2", "grid_s", "grid_t", "latent", "made_with", "r1_sigma",
              "s1.adamw", "s1.fd", "s1.grad_l2", "s2c.disc.grad_l2", "s2c.fake.grad_l2", "s2s.grad_l2",
              "scalars", "sigmas"},
             "case.json");
  check_keys(
      c.json.at("config"),
      {"H",     "M",      "N",     "cfg1",        "cfg2",     "delta",       "disc_dropout", "disc_hidden",
       "feats", "fusion", "gan",   "inner_shift", "loss_c",   "outer_shift", "s_shift",      "scales",
       "t_lo",  "t_max",  "t_min", "tangent",     "td_shift", "vsd_norm",    "wan",          "xhat"},
      "case.json config");
  if (c.json.contains("disc")) {
    check_keys(c.json.at("disc"), {"channels", "feature_map", "groups", "pool_kernels"}, "case.json disc");
  }
  read_model(c);
  read_method(c);
  read_optimizer(c);
  c.draws = read_tensors(folder / "draws.safetensors", type);
  const bool plain = std::filesystem::exists(folder / "expected.safetensors");
  c.expected =
      read_tensors(folder / (plain ? "expected.safetensors" : "expected_f64.safetensors"), at::kDouble);
  return c;
}

}  // namespace tmd::golden
