#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "comm/agree.h"
#include "data/codec.h"
#include "data/writer.h"
#include "orchestrator/arguments.h"
#include "orchestrator/latent_pictures.h"
#include "orchestrator/pictures.h"
#include "orchestrator/png_file.h"
#include "orchestrator/prompt_file.h"
#include "orchestrator/sample_source.h"
#include "orchestrator/tensor_file.h"
#include "orchestrator/verbs.h"
#include "orchestrator/webp_file.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd sample --weights DIR --output DIR [--prompts FILE.h5] [--count N] [--steps M] [--seed S] [--teacher] [--average]
           [--dtype f32|f64|bf16] [--device auto|cpu|cuda] [--frames F] [--height H] [--width W] [--vae FILE]
           [--taew FILE] [--write-noise FILE.safetensors] [--sampler.KEY=VALUE ...]

Samples videos. DIR is a run (its folder, or one of its checkpoints/step_*), an export, or the folder of a published Wan
model, which is sampled as a teacher. Prompts are the embeddings in FILE.h5, a tmd-latents file with or without latents (see
scripts/embed_prompts.py); default: the run's own data, or the embeddings.h5 of an export.

  --teacher, --average   of a run: its teacher instead of the student; the average of the weights that it trains (one of
                         the two)
  --steps                of the student's outer grid, or of the teacher's sampler
  --sampler.KEY=VALUE    how a teacher is sampled: solver, steps, shift, cfg, grid, model_time, skip_block (tmd inspect
                         options). Exports and runs bring theirs; published models have unipc, 50 steps, shift 5, guidance
                         5. Of students and teachers: --sampler.batch, samples that are computed at once (published models
                         1, else 16)
  --dtype                what exports and published models compute with (default f32; a run: as it was trained)
  --device               what exports and published models compute on (default auto: a GPU where there is one; a run: its
                         device.kind)
  --frames --height --width   size of the videos for published models (default 81 x 480 x 832) and exports with Wan latents
                         (default as trained): frames 4 k + 1, height and width multiples of 16
  --vae, --taew          weights that show latents of Wan's VAE: its own, or those of TAEW2.1; without them a linear map
                         shows a small picture
  --write-noise          the noise that the samples are made of, for other programs: `noise` [N, C, T, H, W]; of a TMD
                         student `inner_noise` [M, N, C, T, H, W]; with method.outer_sampler = renoise `renewed_noise`
                         [M - 1, N, C, T, H, W], row i - 2 for outer step i

Writes samples.h5 (latents with their prompts, itself a tmd-latents file) and, when the latents can be decoded, samples.png
and samples.webp of the first 64. Any number of ranks samples a run.

  mpirun -n 2 tmd sample --weights runs/clips --count 8 --output out
  mpirun -n 2 tmd sample --weights runs/clips/checkpoints/step_00000400 --prompts mine.h5 --seed 7 --output out
  tmd sample --weights exported --prompts mine.h5 --output out
  tmd sample --weights Wan2.1-T2V-1.3B --prompts mine.h5 --frames 17 --height 240 --width 416 --dtype bf16 --output out
)";

constexpr int64_t kMostShown = 64;

void write_pictures(const std::filesystem::path& folder, const LatentPictures* pictures,
                    const at::Tensor& samples) {
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
             {.frames_per_second = pictures->frames_per_second(rows[0][0].size(1))});
  log_info("pictures are decoded by {}", pictures->decoder_name());
}

void write_output(const std::filesystem::path& folder, const data::LatentHeader& latents,
                  const Prompts& prompts, const LatentPictures* pictures, const at::Tensor& samples) {
  data::LatentHeader header = sample_header(latents, prompts);
  header.samples = samples.size(0);
  data::LatentWriter writer(folder / "samples.h5", header);
  for (int64_t i = 0; i < samples.size(0); ++i) {
    const data::Sample& row = prompts.rows[static_cast<size_t>(i)];
    writer.write(i, {samples[i], row.text, row.text_length, row.prompt});
  }
  if (prompts.negative) writer.write_negative_text(*prompts.negative);
  writer.finish();
  write_pictures(folder, pictures, samples);
}

configs::DecoderOptions decoders(const Arguments& arguments, const SampleSource& source) {
  const std::string& codec = source.latent_header().codec;
  check(codec == data::kWanCodec || !(arguments.has("vae") || arguments.has("taew")), ErrorKind::kUsage,
        fmt::format("tmd sample: --vae and --taew are for latents of {}, not of {}", data::kWanCodec, codec));
  configs::DecoderOptions options = source.decoders();
  options.vae = arguments.value_or("vae", options.vae);
  options.taew = arguments.value_or("taew", options.taew);
  return options;
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  SamplerWords split = take_sampler_words(words);
  const Arguments arguments("sample", split.rest,
                            {"weights", "output", "prompts", "count", "steps", "seed", "dtype", "frames",
                             "height", "width", "device", "write-noise", "vae", "taew"},
                            {"teacher", "average"});
  arguments.refuse_plain();
  const int64_t count = arguments.integer_or("count", 8);
  check(count >= 1, ErrorKind::kUsage, "tmd sample: --count must be at least 1");
  check(arguments.integer_or("steps", 1) >= 1, ErrorKind::kUsage, "tmd sample: --steps must be at least 1");
  const std::filesystem::path output = arguments.required("output");
  SourceOptions options = source_options(arguments, split.sampler);
  options.teacher = arguments.has("teacher");
  const auto source = SampleSource::open(world, arguments.required("weights"), options);
  if (arguments.has("steps")) source->set_steps(arguments.integer_or("steps", 1));
  const configs::DecoderOptions decoder = decoders(arguments, *source);
  std::unique_ptr<LatentPictures> pictures;
  Prompts prompts;
  comm::run_agreed(world, [&] {  // whatever can be refused is refused before the work
    if (arguments.has("prompts")) {
      data::DataSet set({std::filesystem::path(arguments.required("prompts"))});
      prompts = read_prompts(set, count);
    } else {
      prompts = source->own_prompts(count);
    }
    source->check_prompts(prompts);
    if (world.rank() != 0) return;
    pictures = LatentPictures::make(source->latent_header(), decoder);
    if (arguments.has("write-noise")) require_folder_of(arguments.required("write-noise"));
    create_folders(output);
  });
  source->load();
  const auto seed = static_cast<uint64_t>(arguments.integer_or("seed", 1));
  const SampleRequest request = source->request(prompts, seed);
  const at::Tensor samples = source->sample(request);
  comm::run_agreed(world, [&] {
    if (world.rank() != 0) return;
    write_output(output, source->latent_header(), prompts, pictures.get(), samples);
    if (arguments.has("write-noise"))
      write_tensors(arguments.required("write-noise"), source->noise(request));
  });
  if (world.rank() == 0) log_info("{} samples in {}", samples.size(0), output.string());
  source->close();
  return 0;
}

}  // namespace

const Verb kSampleVerb{"sample", "sample videos from a run, an export or a published model", kHelp, run};

}  // namespace tmd::orchestrator
