#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "method/draws.h"
#include "method/generator.h"
#include "method/samplers.h"
#include "method/stage1.h"
#include "method/stage2.h"
#include "method/teacher.h"

namespace tmd::workers {

/// `[train]` of the configuration.
struct TrainOptions {
  int64_t global_batch = 64;  ///< samples per iteration over all ranks
  int64_t micro_batch = 0;    ///< samples per rank that are computed at once; 0 = all of the rank's share
  enum class Precision { kFp32, kBf16, kFp64 } precision = Precision::kFp32;
  /// Last blocks of each trained network that stay gathered and keep their activations instead of computing
  /// them again.
  int64_t keep_blocks = 0;
  enum class NonFinite {
    kSkip,
    kStop
  } nonfinite = NonFinite::kSkip;  ///< what a step with NaN or infinity does
  int64_t max_nonfinite = 10;      ///< skipped steps in a row that stop the run
  int64_t threads = 0;             ///< compute threads per rank; 0: set_compute_threads
};

enum class LearningRateDecay { kNone, kCosine, kLinear };

/// AdamW and what surrounds it, per stage.
struct OptimizerOptions {
  double lr = 1e-5;
  int64_t warmup = 0;                                  ///< iterations of linear warm-up
  LearningRateDecay decay = LearningRateDecay::kNone;  ///< to zero at the stage's end
  double decay_share = 1;  ///< last share of the stage over which the rate falls; before, it is constant
  double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8;
  double weight_decay = 0.01;
  double clip = 10;  ///< global norm, 0 = off
  double ema = 0;    ///< decay of the weight average, 0 = none
};

enum class MethodName { kTmd, kDmd2v, kTm, kMeanFlow };

/// `[method]`: what the student is.
struct MethodOptions {
  MethodName name = MethodName::kTmd;
  int64_t outer_steps = 2;  ///< M
  int64_t inner_steps = 2;  ///< N
  double outer_shift = 10, inner_shift = 10;
  method::InnerForm form;  ///< what the inner flow goes to and the flow head puts out
  method::XHat x_hat = method::XHat::kXtMinusTy;
  method::OuterStep outer_step = method::OuterStep::kDeterministic;  ///< of the sampler
};

/// `[teacher]`: flow matching.
struct TeacherStage {
  int64_t iterations = 0;
  OptimizerOptions optimizer;
  method::TeacherOptions equation;
  double condition_drop = 0.1;
};

/// `[stage1]`: pre-training of the flow head (TMD Sec. 3.1).
struct Stage1Stage {
  int64_t iterations = 3000;
  OptimizerOptions optimizer{.lr = 3e-5};
  method::Stage1Options equation;  ///< grids and loss_c are filled from the method and the latent size
  double c_per_element = 1;        ///< c = c_per_element * d
  method::DrawShares shares;
};

/// `[kd]`: knowledge distillation from stored pairs of noise and video (TMD App. A.3).
struct KdStage {
  int64_t iterations = 10'000;
  OptimizerOptions optimizer{.lr = 7e-5};
};

/// `[stage2]`: distribution matching (TMD Sec. 3.2, App. A.3).
struct Stage2Stage {
  int64_t iterations = 4000;
  int64_t student_every = 5;
  OptimizerOptions optimizer;  ///< of the student; lr of the others below, clip only here
  double lr_fake = 1e-5, lr_discriminator = 1e-5;
  /// Of the implicit distribution alignment: after a student update the fake score's weights are
  /// (1 - ida) fake + ida student (SenseFlow, arXiv 2506.00523); 0 = off.
  double ida = 0;
  double clip_critic = 0;          ///< of fake score and discriminator, 0 = off
  method::Stage2Options equation;  ///< the grid is filled from the method
};

/// Settings of all stages.
struct StageOptions {
  MethodOptions method;
  TeacherStage teacher;
  Stage1Stage stage1;
  KdStage kd;
  Stage2Stage stage2;
};

/// Learning rate of iteration `i` (from 1) of `iterations`, from the base rate `lr`: i / warmup of it, then
/// the decay, which would be at zero in iteration `iterations` + 1.
double learning_rate(const OptimizerOptions& options, double lr, int64_t i, int64_t iterations);

}  // namespace tmd::workers
