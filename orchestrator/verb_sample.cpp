#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "comm/agree.h"
#include "data/writer.h"
#include "orchestrator/arguments.h"
#include "orchestrator/pictures.h"
#include "orchestrator/png_file.h"
#include "orchestrator/previews.h"
#include "orchestrator/trained_run.h"
#include "orchestrator/verbs.h"
#include "orchestrator/webp_file.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd sample --weights DIR --output DIR [--prompts FILE.h5] [--count N] [--steps M] [--seed S] [--teacher] [--average]

Samples videos from a run (its folder, or one of its checkpoints/step_*). Prompts are the embeddings in FILE.h5, a
tmd-latents file with or without latents; default: the run's own data. --teacher samples the teacher instead of the
student. Writes samples.h5 (latents with their prompts, itself a tmd-latents file) and, when the codec can be decoded,
samples.png and samples.webp of the first 64. Runs on as many ranks as trained the run.

  mpirun -n 2 tmd sample --weights runs/clips --count 8 --output out
  mpirun -n 2 tmd sample --weights runs/clips/checkpoints/step_00000400 --prompts mine.h5 --seed 7 --output out
)";

constexpr int64_t kMostShown = 64;

struct Prompts {
  at::Tensor text;  // [N, S, E]
  std::vector<data::Sample> rows;
};

Prompts read_prompts(data::DataSet& set, int64_t count, const data::LatentHeader& trained_on) {
  check(set.header().text_shape == trained_on.text_shape, ErrorKind::kData,
        fmt::format("the prompts are {} x {}, the model takes {} x {}", set.header().text_shape[0],
                    set.header().text_shape[1], trained_on.text_shape[0], trained_on.text_shape[1]),
        "embed the prompts with the encoder that made the training data");
  Prompts prompts;
  std::vector<at::Tensor> text;
  for (int64_t i = 0; i < std::min(count, set.size()); ++i) {
    auto read = set.read(i);
    if (const auto* bad = std::get_if<data::BadSample>(&read)) {
      throw Error(ErrorKind::kData, fmt::format("{}: {}", bad->name, bad->problem));
    }
    prompts.rows.push_back(std::get<data::Sample>(std::move(read)));
    text.push_back(prompts.rows.back().text);
  }
  prompts.text = at::stack(text, 0);
  return prompts;
}

void write_output(const std::filesystem::path& folder, const data::DataSet& trained_on,
                  const Prompts& prompts, const at::Tensor& samples) {
  data::LatentHeader header = trained_on.header();
  header.samples = samples.size(0);
  header.latent_type = header.text_type = data::StoredType::kFloat32;
  header.has_prompts = header.has_checksum = true;
  header.generator.clear();
  data::LatentWriter writer(folder / "samples.h5", header);
  for (int64_t i = 0; i < samples.size(0); ++i) {
    const data::Sample& row = prompts.rows[static_cast<size_t>(i)];
    writer.write(i, {samples[i], row.text, row.text_length, row.prompt});
  }
  if (header.has_negative_text) writer.write_negative_text(trained_on.negative_text());
  writer.finish();
  const auto pictures = LatentPictures::make(header);
  if (!pictures) return;
  if (pictures->is_plot()) {
    write_png(folder / "samples.png", pictures->plot(samples, samples));
    return;
  }
  std::vector<std::vector<at::Tensor>> rows;
  // Encoders refuse very tall pictures; samples.h5 holds all.
  const int64_t shown = std::min(samples.size(0), kMostShown);
  for (at::Tensor& video : pictures->videos(samples.narrow(0, 0, shown))) rows.push_back({std::move(video)});
  const GridOptions grid{.scale = upscale_factor(rows[0][0].size(3), 128)};
  write_png(folder / "samples.png", contact_sheet(rows, {.grid = grid}));
  write_webp(folder / "samples.webp", video_grid(rows, grid),
             {.frames_per_second = header.fps > 0 ? header.fps : 8});
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("sample", words, {"weights", "output", "prompts", "count", "steps", "seed"},
                            {"teacher", "average"});
  const int64_t count = arguments.integer_or("count", 8);
  check(count >= 1, ErrorKind::kUsage, "tmd sample: --count must be at least 1");
  check(arguments.integer_or("steps", 1) >= 1, ErrorKind::kUsage, "tmd sample: --steps must be at least 1");
  const std::filesystem::path output = arguments.required("output");
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) create_folders(output);  // refused before the work, not after it
  });
  TrainedRun trained(world, arguments.required("weights"));
  if (arguments.has("average")) trained.use_average();
  Job& job = trained.job();
  Prompts prompts;
  comm::run_agreed(world, [&] {
    if (arguments.has("prompts")) {
      data::DataSet set({std::filesystem::path(arguments.required("prompts"))});
      prompts = read_prompts(set, count, job.data().header());
    } else {
      prompts = read_prompts(job.data(), count, job.data().header());
    }
  });
  const SampleRequest request{.text = prompts.text,
                              .negative_text = job.negative_text(),
                              .latent_shape = job.latent_shape(),
                              .seed = static_cast<uint64_t>(arguments.integer_or("seed", 1)),
                              .first_number = 0,
                              .batch = trained.config().sampler.batch};
  at::Tensor samples;
  if (arguments.has("teacher") || trained.student() == nullptr) {
    configs::SamplerOptions sampler = trained.config().sampler;
    sampler.steps = arguments.integer_or("steps", sampler.steps);
    samples = sample_teacher(job.plan(), trained.teacher(), sampler, request);
  } else {
    workers::MethodOptions method = trained.config().stages.method;
    method.outer_steps = arguments.integer_or("steps", method.outer_steps);
    samples = sample_student(job.plan(), *trained.student(), method, request);
  }
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) write_output(output, job.data(), prompts, samples);
  });
  if (world.rank() == 0) log_info("{} samples in {}", samples.size(0), output.string());
  trained.close();
  return 0;
}

}  // namespace

const Verb kSampleVerb{"sample", "sample videos from a run", kHelp, run};

}  // namespace tmd::orchestrator
