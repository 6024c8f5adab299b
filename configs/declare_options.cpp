#include "configs/config.h"

namespace tmd::configs {

using workers::LearningRateDecay;
using workers::MethodName;
using workers::OptimizerOptions;
using Section = OptionTable::Section;

namespace {

void declare_run(OptionTable& table, Config& c) {
  Section run = table.section("run", "The run as a whole");
  run.add("seed", &c.run.seed, "all random numbers follow from it").experiment();
  run.add("stages", &c.run.stages, "stages to run, in order: teacher, stage1, kd, stage2").experiment();
  run.add("max_minutes", &c.run.max_minutes,
          "save and end with exit code 75 before this time has passed; 0 = no limit")
      .min(0);
  run.add("stop_margin_s", &c.run.stop_margin_s,
          "seconds before a limit of time that are kept free beside an iteration and a save")
      .min(0);
}

void declare_model(OptionTable& table, Config& c) {
  Section model = table.section("model", "The network; defaults are those of Wan2.1 1.3B");
  model
      .add("kind", &c.model.kind, {{"wan", model::ModelKind::kWan}, {"mlp", model::ModelKind::kMlp}},
           "wan: Wan2.1 transformer of any size; mlp: perceptron for problems of a few numbers, without text")
      .experiment();
  model.add("heads", &c.model.wan.heads, "attention heads").min(1).experiment();
  model.add("head_dim", &c.model.wan.head_dim, "channels of a head, even, at least 6").min(6).experiment();
  model.add("ffn", &c.model.wan.ffn, "width of the feed-forward layer").min(1).experiment();
  model.add("layers", &c.model.wan.layers, "transformer blocks").min(1).experiment();
  model.add("channels", &c.model.wan.channels, "channels of the latent").min(1).experiment();
  model.add("text_dim", &c.model.wan.text_dim, "features of a text row").min(1).experiment();
  model.add("text_length", &c.model.wan.text_length, "rows of a text embedding").min(1).experiment();
  model.add("freq_dim", &c.model.wan.freq_dim, "size of the time sinusoid, even").min(2).experiment();
  model.add("epsilon", &c.model.wan.epsilon, "added to variances in the norms").above(0).experiment();
  model
      .add(
          "weights", &c.model.weights,
          "weights that the teacher starts from: a published Wan model's folder or file, or an export, which "
          "also say the sizes above; empty = random")
      .experiment();
  model.add("mlp_width", &c.model.mlp.width, "kind = mlp: width of the hidden layers").min(1).experiment();
  model.add("mlp_layers", &c.model.mlp.hidden_layers, "kind = mlp: hidden layers").min(1).experiment();
}

void declare_train(OptionTable& table, Config& c) {
  using Precision = workers::TrainOptions::Precision;
  using NonFinite = workers::TrainOptions::NonFinite;
  Section train = table.section("train", "How every stage is trained");
  train.add("global_batch", &c.train.global_batch, "samples per iteration over all ranks")
      .min(1)
      .experiment();
  train
      .add("micro_batch", &c.train.micro_batch,
           "samples per rank that are computed at once; 0 = its whole share")
      .min(0);
  train
      .add("precision", &c.train.precision,
           {{"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}, {"fp64", Precision::kFp64}},
           "type of compute; bf16 keeps parameters, gradients and the residual stream in float32")
      .experiment();
  train
      .add("keep_blocks", &c.train.keep_blocks,
           "last blocks of each trained network that keep activations and gathered parameters instead of "
           "computing and gathering them again")
      .min(0);
  train
      .add("nonfinite", &c.train.nonfinite, {{"skip", NonFinite::kSkip}, {"stop", NonFinite::kStop}},
           "what an iteration with a NaN or infinite gradient does: skip the update on all ranks, or end the "
           "run")
      .experiment();
  train.add("max_nonfinite", &c.train.max_nonfinite, "skipped iterations in a row that end the run").min(1);
  train
      .add("threads", &c.train.threads,
           "compute threads per rank; 0 = the cores it may use, shared with the other trainers there")
      .min(0);
}

void declare_device(OptionTable& table, Config& c) {
  using Kind = workers::DeviceOptions::Kind;
  using Attention = workers::DeviceOptions::Attention;
  Section device = table.section("device", "What the trainers compute on; the others are about GPUs alone");
  device.add("kind", &c.device.kind, {{"auto", Kind::kAuto}, {"cpu", Kind::kCpu}, {"cuda", Kind::kCuda}},
             "auto: GPUs where this program is built for them and hosts have some, else the CPU");
  device.add("share", &c.device.share, "let several trainers of a host use one GPU (NCCL 2.30 or newer)");
  device.add("deterministic", &c.device.deterministic,
             "the same bits in every run; false: whatever is fastest");
  device.add("tf32", &c.device.tf32, "products of float32 in TensorFloat-32").experiment();
  device.add("cudnn", &c.device.cudnn, "convolutions through cuDNN");
  device.add("attention", &c.device.attention,
             {{"auto", Attention::kAuto},
              {"flash", Attention::kFlash},
              {"cudnn", Attention::kCudnn},
              {"efficient", Attention::kEfficient},
              {"math", Attention::kMath}},
             "which of ATen's attentions; auto: its choice. One that cannot be used ends the run");
}

void declare_optimizer(Section section, OptimizerOptions& o) {
  section.add("lr", &o.lr, "learning rate").min(0).experiment();
  section.add("warmup", &o.warmup, "iterations of linear warm-up").min(0).experiment();
  section
      .add("decay", &o.decay,
           {{"none", LearningRateDecay::kNone},
            {"cosine", LearningRateDecay::kCosine},
            {"linear", LearningRateDecay::kLinear}},
           "how the learning rate falls to zero at the end of the stage")
      .experiment();
  section.add("decay_share", &o.decay_share, "last share of the stage over which the learning rate falls")
      .above(0)
      .max(1)
      .experiment();
  section.add("beta1", &o.beta1, "AdamW: decay of the first moment").min(0).below(1).experiment();
  section.add("beta2", &o.beta2, "AdamW: decay of the second moment").min(0).below(1).experiment();
  section.add("epsilon", &o.epsilon, "AdamW: added to the denominator").above(0).experiment();
  section.add("weight_decay", &o.weight_decay, "AdamW: decoupled weight decay").min(0).experiment();
  section.add("clip", &o.clip, "gradient norm that is clipped to; 0 = off").min(0).experiment();
  section.add("ema", &o.ema, "decay of the average of the weights; 0 = none").min(0).below(1).experiment();
}

void declare_teacher(OptionTable& table, Config& c) {
  workers::TeacherStage& t = c.stages.teacher;
  Section teacher = table.section("teacher", "Stage teacher: flow matching of noise - data");
  teacher.add("iterations", &t.iterations, "length of the stage").min(0).experiment();
  declare_optimizer(teacher, t.optimizer);
  teacher.add("time_shift", &t.equation.time_shift, "training times are shift(U; time_shift)")
      .min(1)
      .experiment();
  teacher.add("condition_drop", &t.condition_drop, "share of samples that see the negative prompt")
      .min(0)
      .max(1)
      .experiment();
}

void declare_discriminator(Section method, model::DiscriminatorConfig& d) {
  using Kind = model::DiscriminatorKind;
  method
      .add("discriminator", &d.kind,
           {{"conv3d", Kind::kConv3d}, {"conv1d_2d", Kind::kConv1d2d}, {"attention", Kind::kAttention}},
           "what a branch of the discriminator is made of; stage2.gan_weight = 0 is none at all")
      .experiment();
  method.add("discriminator_scales", &d.scales, "conv3d: pooling factors of a branch").min(1).experiment();
  method.add("discriminator_reduction", &d.reduction, "conv3d: divides the channels inside a branch")
      .min(1)
      .experiment();
  method.add("discriminator_conv_widths", &d.conv_widths, "conv1d_2d: channels of its pairs of convolutions")
      .min(1)
      .experiment();
  method.add("discriminator_attention_width", &d.attention.width, "attention: width of its tokens")
      .min(1)
      .experiment();
  method.add("discriminator_attention_heads", &d.attention.heads, "attention: heads, which divide the width")
      .min(1)
      .experiment();
  method.add("discriminator_attention_layers", &d.attention.layers, "attention: transformer layers")
      .min(1)
      .experiment();
  method
      .add("discriminator_attention_pool", &d.attention.pool,
           "attention: a token is the mean of a square of so many by so many positions of a feature map; 2 "
           "makes as many tokens as the teacher has")
      .min(1)
      .experiment();
  method.add("discriminator_hidden", &d.hidden, "width of the discriminator's perceptron")
      .min(1)
      .experiment();
  method.add("discriminator_dropout", &d.dropout, "its dropout in critic iterations")
      .min(0)
      .below(1)
      .experiment();
}

void declare_method(OptionTable& table, Config& c) {
  workers::MethodOptions& m = c.stages.method;
  Section method = table.section("method", "The student");
  method
      .add("name", &m.name,
           {{"tmd", MethodName::kTmd},
            {"dmd2v", MethodName::kDmd2v},
            {"tm", MethodName::kTm},
            {"meanflow", MethodName::kMeanFlow}},
           "tmd: Transition Matching Distillation; dmd2v: DMD2-v; tm: plain transition matching, meanflow: "
           "MeanFlow of the outer flow (stage 1 only)")
      .experiment();
  method.add("outer_steps", &m.outer_steps, "M, steps of the sampler").min(1).max(100).experiment();
  method.add("inner_steps", &m.inner_steps, "N, inner steps of the flow head").min(1).max(100).experiment();
  method.add("outer_shift", &m.outer_shift, "shift of the outer grid").min(1).experiment();
  method.add("inner_shift", &m.inner_shift, "shift of the inner grid").min(1).experiment();
  method
      .add("x_hat", &m.x_hat,
           {{"xt_minus_ty", method::XHat::kXtMinusTy}, {"x1_minus_y", method::XHat::kX1MinusY}},
           "clean sample of a prediction: x_t - t y (default), or x_1 - y as printed in TMD Eq. 15")
      .experiment();
  method
      .add("inner_target", &m.form.target,
           {{"velocity", method::InnerTarget::kVelocity}, {"clean", method::InnerTarget::kClean}},
           "y of the inner flow: x_1 - x (default), or x (TMD App. B.4)")
      .experiment();
  method
      .add("head_output", &m.form.output,
           {{"estimate", method::HeadOutput::kEstimate},
            {"average_velocity", method::HeadOutput::kAverageVelocity}},
           "what the flow head puts out: an outer velocity (default), or the inner average velocity u itself")
      .experiment();
  method
      .add(
          "outer_sampler", &m.outer_step,
          {{"deterministic", method::OuterStep::kDeterministic}, {"renoise", method::OuterStep::kRenoise}},
          "outer steps along the velocity (default), or to the clean sample and back with new noise, as DMD2")
      .experiment();
  method.add("head_blocks", &c.student.head_blocks, "H, last blocks that form the flow head; 0 = by depth")
      .min(0)
      .experiment();
  method
      .add("fusion", &c.student.fusion,
           {{"gated", model::Fusion::kGated}, {"concat", model::Fusion::kConcat}},
           "how main feature and inner state meet")
      .experiment();
  method.add("gate_start", &c.student.gate_start, "start of a in the fusion gate sigmoid(a)").experiment();
  method.add("gate_lr_multiplier", &c.student.gate_lr_multiplier, "learning-rate multiplier of a")
      .min(0)
      .experiment();
  method.add("concat_std", &c.student.concat_std, "start of the concat fusion's inner half")
      .min(0)
      .experiment();
  method
      .add("feature_blocks", &c.feature_blocks,
           "teacher blocks that the discriminator reads; empty = by depth")
      .min(0)
      .experiment();
  declare_discriminator(method, c.discriminator);
}

void declare_stage1(OptionTable& table, Config& c) {
  workers::Stage1Stage& s = c.stages.stage1;
  Section stage1 = table.section("stage1", "Stage 1: pre-training of the flow head (TMD Sec. 3.1)");
  stage1.add("iterations", &s.iterations, "length of the stage").min(0).experiment();
  declare_optimizer(stage1, s.optimizer);
  stage1
      .add("objective", &s.equation.objective,
           {{"tm_mf", method::Stage1Objective::kTmMf}, {"tm", method::Stage1Objective::kTm}},
           "transition-matching MeanFlow, or plain transition matching (r = s always)")
      .experiment();
  stage1
      .add("tangent", &s.equation.tangent,
           {{"guided", method::Tangent::kGuided},
            {"plain", method::Tangent::kPlain},
            {"predicted", method::Tangent::kPredicted}},
           "direction of the derivative: y_1 - y with guided y, with y itself, or the student's own velocity")
      .experiment();
  stage1.add("c_per_element", &s.c_per_element, "c / d of the loss S / (S + c); 1 for 1.3B, 1e-5 for 14B")
      .above(0)
      .experiment();
  stage1.add("cfg", &s.equation.cfg, "guidance of the target").min(0).experiment();
  stage1
      .add("cfg_mix", &s.equation.cfg_mix,
           "kappa of MeanFlow's guidance: share of the student's conditional prediction; 0 = none")
      .min(0)
      .below(1)
      .experiment();
  stage1
      .add(
          "interval", &s.equation.interval,
          {{"grid", method::Interval::kGrid}, {"continuous", method::Interval::kContinuous}},
          "r of an interval: the inner grid point below s (default), or any time below, as MeanFlow draws it")
      .experiment();
  stage1
      .add("derivative", &s.equation.derivative,
           {{"difference", method::Derivative::kDifference}, {"exact", method::Derivative::kExact}},
           "d/ds of the head: finite difference (default), or an exact Jacobian-vector product")
      .experiment();
  stage1
      .add("detach_features", &s.equation.detach_features,
           "keep the loss of the flow head from the backbone, which then only learns by weight decay")
      .experiment();
  stage1.add("delta", &s.equation.delta, "step of the finite difference").above(0).below(0.5).experiment();
  stage1.add("s_shift", &s.equation.s_shift, "inner times are shift(U; s_shift)").min(1).experiment();
  stage1.add("flow_matching", &s.shares.flow_matching, "share of samples with r = s")
      .min(0)
      .max(1)
      .experiment();
  stage1.add("condition_drop", &s.shares.condition_drop, "share of samples that see the negative prompt")
      .min(0)
      .max(1)
      .experiment();
}

void declare_kd(OptionTable& table, Config& c) {
  workers::KdStage& s = c.stages.kd;
  Section kd = table.section("kd", "Stage kd: knowledge distillation from pairs of `tmd data synth`");
  kd.add("iterations", &s.iterations, "length of the stage").min(0).experiment();
  declare_optimizer(kd, s.optimizer);
}

void declare_stage2(OptionTable& table, Config& c) {
  workers::Stage2Stage& s = c.stages.stage2;
  Section stage2 =
      table.section("stage2", "Stage 2: distribution matching with rollout of the flow head (TMD Sec. 3.2)");
  stage2.add("iterations", &s.iterations, "length of the stage, critic iterations included")
      .min(0)
      .experiment();
  stage2
      .add("student_every", &s.student_every,
           "every so many iterations update the student, the others the critics")
      .min(1)
      .experiment();
  declare_optimizer(stage2, s.optimizer);
  stage2.add("lr_fake", &s.lr_fake, "learning rate of the fake score").min(0).experiment();
  stage2.add("lr_discriminator", &s.lr_discriminator, "learning rate of the discriminator")
      .min(0)
      .experiment();
  stage2.add("clip_critic", &s.clip_critic, "gradient norm of fake score and discriminator; 0 = off")
      .min(0)
      .experiment();
  stage2.add("cfg", &s.equation.cfg, "guidance of the teacher").min(0).experiment();
  stage2
      .add("rollout", &s.equation.rollout,
           "roll the flow head out over all inner steps; false: one call from a state of the real inner path")
      .experiment();
  stage2
      .add(
          "train_input", &s.equation.input,
          {{"noised_data", method::OuterInput::kNoisedData}, {"simulation", method::OuterInput::kSimulation}},
          "x_t of the student: noised data (default), or its own outer steps from noise")
      .experiment();
  stage2
      .add("ida", &s.ida,
           "share of the student's weights that the fake score takes over after a student update; 0 = off")
      .min(0)
      .max(1)
      .experiment();
  stage2
      .add("td_shift", &s.equation.td_shift,
           "diffusion times are shift(U; td_shift); 1 is known to collapse modes")
      .min(1)
      .experiment();
  stage2
      .add("vsd_norm", &s.equation.vsd_norm,
           {{"x_minus_teacher", method::VsdNorm::kXMinusTeacher},
            {"fake_minus_teacher", method::VsdNorm::kFakeMinusTeacher}},
           "denominator of the VSD direction")
      .experiment();
  stage2
      .add("features", &s.equation.features,
           {{"teacher", method::FeatureSource::kTeacher}, {"fake", method::FeatureSource::kFake}},
           "network whose feature maps the discriminator reads")
      .experiment();
  stage2
      .add("real_noise", &s.equation.real_noise,
           {{"same", method::RealNoise::kSame}, {"independent", method::RealNoise::kIndependent}},
           "noise and diffusion time of the discriminator's real samples: those of the fake ones, or their "
           "own")
      .experiment();
  stage2.add("gan_weight", &s.equation.gan_weight, "lambda of the GAN term; 0 = no discriminator")
      .min(0)
      .experiment();
  stage2.add("r1_weight", &s.equation.r1_weight, "approximate R1 of the discriminator; 0 = off")
      .min(0)
      .experiment();
  stage2.add("r1_sigma", &s.equation.r1_sigma, "its noise").above(0).experiment();
}

void declare_ranks_and_data(OptionTable& table, Config& c) {
  Section mesh = table.section("mesh", "How the ranks are used");
  mesh.add("replicate", &c.mesh.replicate, "copies of the sharded state; 0 = fill").min(0);
  mesh.add("shard", &c.mesh.shard, "ranks that a copy is cut over; 0 = fill").min(0);
  mesh.add("sequence", &c.mesh.sequence, "Ulysses degree; 0 = fill").min(0);
  mesh.add("tensor", &c.mesh.tensor, "tensor-parallel degree; 0 = fill").min(0);
  mesh.add(
      "two_level", &c.mesh.two_level,
      "cut masters, moments and averages over the replicas too: weights over shard, the optimizer over all");
  mesh.add("data_workers", &c.data_workers, "last ranks that only read data; 0 = every trainer reads").min(0);
  Section data = table.section("data", "Training data");
  data.add("files", &c.data.files, "tmd-latents files or globs, in order").experiment();
  data.add("max_bad", &c.data.max_bad, "broken samples that are replaced before the run stops").min(0);
  data.add("prefetch", &c.data.prefetch, "micro-batches read ahead per trainer").min(1);
}

void declare_judging(OptionTable& table, Config& c) {
  Section judge = table.section("judge", "What is measured now and then while a run trains");
  judge
      .add(
          "every", &c.judge.every,
          "iterations between measurements of the weights; checkpoints of such iterations, and the last one, "
          "are judged by samples; 0 = off")
      .min(0);
  judge.add("samples", &c.judge.samples, "samples of the student that a checkpoint is judged by").min(8);
  judge.add(
      "metric", &c.judge.metric,
      "number that says which checkpoint is best: distance, the one that tmd eval shows first of all, or a "
      "metric of its JSON; none or empty = nothing is sampled");
  judge.add("keep_best", &c.judge.keep_best, "keep the best checkpoint; checkpoints/BEST leads to it");
  Section alarm = table.section(
      "alarm", "Limits of the student's samples against the data, which end a run with exit code 3");
  alarm.add("min_diversity", &c.alarm.min_diversity, "collapse: least diversity_ratio; 0 = off").min(0);
  alarm.add("min_std", &c.alarm.min_std, "collapse: least std_ratio; 0 = off").min(0);
  alarm.add("min_motion", &c.alarm.min_motion, "lost motion: least motion_ratio; 0 = off").min(0);
  alarm.add("max_rms", &c.alarm.max_rms, "divergence: largest x_hat_rms / data_rms; 0 = off").min(0);
  alarm.add("patience", &c.alarm.patience, "student iterations in a row beyond a limit that end the run")
      .min(1);
}

void declare_output(OptionTable& table, Config& c) {
  Section checkpoint = table.section("checkpoint", "Checkpoints");
  checkpoint.add("every", &c.checkpoint.every, "iterations between checkpoints; the end is always saved")
      .min(1);
  checkpoint.add("async", &c.checkpoint.async, "write while training goes on; false: training waits");
  checkpoint.add("keep_last", &c.checkpoint.keep_last, "newest checkpoints that are kept").min(1);
  checkpoint.add("keep_every", &c.checkpoint.keep_every, "also keep multiples of this iteration; 0 = none")
      .min(0);
  Section watchdog = table.section("watchdog", "What ends a run that hangs");
  watchdog
      .add("deadline_s", &c.watchdog.deadline_s,
           "seconds that a rank may be blocked in one operation before the run ends with exit code 76 and "
           "names "
           "the rank that is late; 0 = never")
      .min(0);
  Section sampler = table.section("sampler", "How the teacher is sampled");
  sampler.add("solver", &c.sampler.solver,
              {{"euler", SamplerOptions::Solver::kEuler}, {"unipc", SamplerOptions::Solver::kUniPc}},
              "solver");
  sampler.add("steps", &c.sampler.steps, "its steps").min(1).max(10000);
  sampler.add("shift", &c.sampler.shift, "shift of its sigmas").min(1);
  sampler.add("cfg", &c.sampler.cfg, "its guidance scale; 1 = off").min(0);
  sampler.add("grid", &c.sampler.grid,
              {{"wan", method::SigmaGrid::kWan}, {"diffusers", method::SigmaGrid::kDiffusers}},
              "grid of its sigmas");
  sampler.add("model_time", &c.sampler.model_time,
              {{"integer", method::ModelTime::kInteger}, {"exact", method::ModelTime::kExact}},
              "time that the network is told");
  sampler
      .add("skip_block", &c.sampler.skip_block,
           "skip-layer guidance: the transformer block, counted from 0, that the negative pass leaves out; "
           "-1 = none")
      .min(-1);
  sampler.add("batch", &c.sampler.batch, "samples per rank that are computed at once").min(1);
  Section preview = table.section("preview", "Pictures while training");
  preview
      .add("every", &c.preview.every, "iterations between previews; 0 = start and end of a stage, -1 = never")
      .min(-1);
  preview.add("prompts", &c.preview.prompts, "prompts shown, the first of the data set").min(1).max(64);
  Section decoder = table.section(
      "decoder", "Weights that show latents of Wan's VAE; the best is used, without any a linear map");
  decoder.add("vae", &c.decoder.vae, "Wan2.1 VAE: safetensors file in original or diffusers names");
  decoder.add("taew", &c.decoder.taew, "TAEW2.1, a small substitute: safetensors file");
}

}  // namespace

std::unique_ptr<OptionTable> declare_options(Config& config) {
  auto table = std::make_unique<OptionTable>();
  declare_run(*table, config);
  declare_model(*table, config);
  declare_train(*table, config);
  declare_device(*table, config);
  declare_method(*table, config);
  declare_teacher(*table, config);
  declare_stage1(*table, config);
  declare_kd(*table, config);
  declare_stage2(*table, config);
  declare_ranks_and_data(*table, config);
  declare_output(*table, config);
  declare_judging(*table, config);
  return table;
}

}  // namespace tmd::configs
