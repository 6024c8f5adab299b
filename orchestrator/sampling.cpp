#include "orchestrator/sampling.h"

#include <numeric>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "base/philox.h"
#include "method/draws.h"
#include "method/flow.h"
#include "method/grids.h"
#include "method/samplers.h"

namespace tmd::orchestrator {
namespace {

// Samples one batch: noise numbers and text in, latents out.
using SampleBatch = std::function<at::Tensor(const std::vector<int64_t>& numbers, const at::Tensor& text)>;

// Deals the rows over the ranks in equal numbers of equal batches, so that all ranks make the same network
// calls; rows beyond the end repeat row 0 and are dropped.
at::Tensor sample_rows(const sharding::Mesh& mesh, const SampleRequest& request, const SampleBatch& sample,
                       const SampleProgress& progress) {
  comm::Communicator& world = mesh.world();
  const int64_t rows = request.text.size(0), ranks = mesh.data_ranks(), sharers = mesh.sample_group().size();
  const int64_t batch = std::min(request.batch, (rows + ranks - 1) / ranks);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < rows; begin += batch * ranks) {
    std::vector<int64_t> index;
    for (int64_t k = 0; k < batch; ++k) {
      const int64_t row = begin + mesh.data_rank() * batch + k;
      index.push_back(row < rows ? row : 0);
    }
    std::vector<int64_t> numbers = index;
    for (int64_t& number : numbers) number += request.first_number;
    at::Tensor local = sample(numbers, request.text.index_select(0, at::tensor(index, at::kLong)));
    if (!local.is_meta()) local = local.cpu();
    local = local.to(at::kFloat).contiguous();
    std::vector<int64_t> shape = local.sizes().vec();
    shape.insert(shape.begin(), {ranks, sharers});
    const at::Tensor all = at::empty(shape, local.options());
    world.all_gather(local, all).wait();
    parts.push_back(all.select(1, 0).flatten(0, 1));  // sharers have the same rows
    if (progress) progress(std::min(rows, begin + batch * ranks));
  }
  return at::cat(parts, 0).narrow(0, 0, rows).contiguous();
}

}  // namespace

at::Tensor outer_noise(uint64_t seed, const std::vector<int64_t>& numbers,
                       const std::vector<int64_t>& latent_shape, at::ScalarType type, Purpose purpose) {
  return method::draw_normal({seed, 0, numbers}, purpose, latent_shape, type);
}

at::Tensor inner_noise(uint64_t seed, int64_t step, const std::vector<int64_t>& numbers,
                       const std::vector<int64_t>& latent_shape, at::ScalarType type) {
  return method::draw_normal({seed, static_cast<uint64_t>(step), numbers}, Purpose::kSampleInner,
                             latent_shape, type);
}

at::Tensor renewed_noise(uint64_t seed, int64_t step, const std::vector<int64_t>& numbers,
                         const std::vector<int64_t>& latent_shape, at::ScalarType type) {
  return method::draw_normal({seed, static_cast<uint64_t>(step), numbers}, Purpose::kOuterRenewal,
                             latent_shape, type);
}

// Noise is said for a file as a whole.
void require_pairs(const data::DataSet& set) {
  int64_t first = 0;
  for (const data::LatentFile& file : set.files()) {
    check(set.noise_of(first).has_value(), ErrorKind::kData,
          fmt::format("{} does not say what noise its samples were made of, and run.stages has kd",
                      file.path().string()),
          "`tmd data synth` makes pairs of noise and video with the teacher");
    first += file.header().samples;
  }
}

at::Tensor pair_noise(const data::DataSet& set, const std::vector<int64_t>& samples, const at::Tensor& like) {
  std::vector<at::Tensor> rows;
  for (const int64_t sample : samples) {
    const std::optional<data::NoiseOf> noise = set.noise_of(sample);
    ensure(noise.has_value(), "samples of stage kd say what noise they were made of");
    rows.push_back(outer_noise(noise->seed, {noise->number}, like.sizes().slice(1).vec(), like.scalar_type(),
                               Purpose::kPairNoise));
  }
  return at::cat(rows, 0).to(like.device());
}

at::Tensor sample_teacher(const workers::NetworkPlan& plan, sharding::ShardedNetwork& teacher,
                          const configs::SamplerOptions& options, const SampleRequest& request,
                          const SampleProgress& progress) {
  const at::NoGradGuard no_grad;
  const at::ScalarType type = teacher.wide_type();
  const at::Device device = teacher.device();
  const auto view = workers::velocity_view(plan, teacher, false);
  const auto sigmas = method::teacher_sigmas(static_cast<int>(options.steps), options.shift, options.grid);
  const method::GuidanceOptions guidance{
      .cfg = options.cfg, .model_time = options.model_time, .skip_block = options.skip_block};
  const bool euler = options.solver == configs::SamplerOptions::Solver::kEuler;
  return sample_rows(
      teacher.mesh(), request,
      [&](const std::vector<int64_t>& numbers, const at::Tensor& text) {
        const at::Tensor x =
            outer_noise(request.seed, numbers, request.latent_shape, type, request.noise).to(device);
        const at::Tensor shown = text.to(device, type), negative = request.negative_text.to(device, type);
        return euler ? method::sample_euler(*view, x, shown, negative, sigmas, guidance)
                     : method::sample_unipc(*view, x, shown, negative, sigmas, guidance);
      },
      progress);
}

at::Tensor sample_student(const workers::NetworkPlan& plan, sharding::ShardedNetwork& student,
                          const workers::MethodOptions& method, const SampleRequest& request,
                          const SampleProgress& progress) {
  const at::NoGradGuard no_grad;
  const at::ScalarType type = student.wide_type();
  const at::Device device = student.device();
  workers::GeneratorView view(plan, method, student, false);
  const auto grid_t = method::student_grid(static_cast<int>(method.outer_steps), method.outer_shift);
  return sample_rows(
      student.mesh(), request,
      [&](const std::vector<int64_t>& numbers, const at::Tensor& text) {
        const at::Tensor noise =
            outer_noise(request.seed, numbers, request.latent_shape, type, request.noise).to(device);
        const auto inner = [&](int i) {
          return inner_noise(request.seed, i, numbers, request.latent_shape, type).to(device);
        };
        // The sampler starts at t_M as training does: noise times t_M.
        const auto renewed = [&](int i) {
          return renewed_noise(request.seed, i, numbers, request.latent_shape, type).to(device);
        };
        return method::sample_student_steps(view.generator(), grid_t.back() * noise, text.to(device, type),
                                            grid_t, method.outer_step, inner, renewed);
      },
      progress);
}

}  // namespace tmd::orchestrator
