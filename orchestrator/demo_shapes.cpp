#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/safetensors.h"
#include "comm/agree.h"
#include "data/toy_file.h"
#include "model/weights_file.h"
#include "orchestrator/demo.h"
#include "orchestrator/pictures.h"
#include "orchestrator/webp_file.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kConfig = "demo-shapes.ini";
constexpr const char* kTeacherFile = "demo-shapes-teacher.safetensors";
constexpr const char* kFewSteps = "teacher, 2 steps";
constexpr const char* kDmd2v = "DMD2-v, 2 steps";
constexpr const char* kTmd = "TMD-N2, 2 steps";
constexpr const char* kDataPhase = "moving shapes: writing the data set";
constexpr const char* kTeacherPhase = "moving shapes: training the teacher from nothing";
constexpr const char* kDmd2vPhase = "moving shapes: distilling with DMD2-v";
constexpr const char* kTmdPhase = "moving shapes: distilling with TMD (stages 1 and 2)";
constexpr const char* kSamplingPhase = "moving shapes: sampling";
constexpr uint64_t kDataSeed = 1;
constexpr int64_t kVideos = 8192, kSamples = 256, kConsoleEvery = 20, kShown = 8, kUpscale = 6;

using Better = DemoMetric::Better;

const std::vector<DemoMetric>& metrics() {
  static const std::vector<DemoMetric> list = {
      {"joint", "joint %", 100, 1, Better::kMore, 0.1},
      {"frechet", "FD", 1, 2, Better::kLess, 2},
      {"coverage", "coverage %", 100, 1, Better::kMore, 0.12},
      {"position_entropy_ratio", "entropy x", 1, 2, Better::kNearOne, 0.1},
      {"residual", "residual px", 1, 2, Better::kLess, 0.1},
      {"speed_ratio", "speed x", 1, 2, Better::kNearOne, 0.1},
  };
  return list;
}

std::string run_name(const std::string& name) { return "shapes/" + name; }

std::string hash_of_tensors(const SafetensorsFile& file) {
  Xxh3 hash;
  for (const SafetensorsEntry& entry : file.entries()) {
    const std::vector<std::byte> bytes = file.read(entry);
    hash.update(bytes);
  }
  return fmt::format("{:016x}", hash.digest());
}

// The shipped teacher carries the hash of its own tensors in its metadata; a damaged or edited file is
// refused.
void check_teacher(const std::filesystem::path& path) {
  check(std::filesystem::exists(path), ErrorKind::kData, fmt::format("{} is not there", path.string()),
        "tmd demo --full trains the teacher from nothing; tmd demo --only mixture does without it");
  const SafetensorsFile file(path);
  const auto stated = file.metadata().find("xxh3_64");
  check(stated != file.metadata().end() && stated->second == hash_of_tensors(file), ErrorKind::kData,
        fmt::format("{} is damaged: its tensors do not have the hash that it states", path.string()),
        "restore the file from the repository, or train it anew with tmd demo --full");
}

void add_videos(const DemoTable& table, DemoResult& result) {
  result.pictures_title = "same prompts, same noise";
  for (int64_t i = 0; i < kShown; ++i) result.pictures.push_back({std::to_string(i + 1), {}});
  for (const EvaluationRow& row : table.rows()) {
    result.picture_headings.push_back(row.name);
    const auto videos = table.pictures().videos(row.samples.narrow(0, 0, kShown));
    for (size_t i = 0; i < videos.size(); ++i) {
      result.pictures[i].pictures.push_back({encode_webp(upscaled(videos[i], kUpscale)), row.name});
    }
  }
}

// The two-step students must be nearer the data than the two-step teacher.
void judge(const DemoTable& table, DemoResult& result) {
  const Score& few = table.row(kFewSteps).score;
  for (const char* name : {kDmd2v, kTmd}) {
    const Score& student = table.row(name).score;
    if (student.distance >= few.distance) {
      result.failures.push_back(fmt::format("{}: Frechet distance {:.2f}, the 2-step teacher has {:.2f}",
                                            name, student.distance, few.distance));
    }
    if (student.accuracy <= few.accuracy) {
      result.failures.push_back(fmt::format("{}: joint accuracy {:.1f} %, the 2-step teacher has {:.1f} %",
                                            name, 100 * student.accuracy, 100 * few.accuracy));
    }
  }
}

// Written twice: the hash of the tensors goes into the metadata of the final file.
void save_teacher(TrainedRun& run, const std::filesystem::path& path) {
  model::SaveOptions options{.dtype = "BF16"};
  const auto save = [&] {
    comm::run_agreed(run.job().trainers(), [&] {
      model::save_weights(run.teacher(), path.parent_path(), path.stem().string(), options);
    });
  };
  save();
  options.metadata["what"] = "teacher of the moving-shapes toy";
  options.metadata["xxh3_64"] = hash_of_tensors(SafetensorsFile(path));
  save();
}

std::filesystem::path shipped_teacher(const DemoStage& stage) {
  return stage.options().configs / kTeacherFile;
}

// The shipped teacher, or with --full one that is trained now.
std::string provide_teacher(DemoStage& stage, const std::string& files) {
  if (!stage.options().full) return shipped_teacher(stage).string();
  const std::filesystem::path trained = stage.file(kTeacherFile);
  stage.begin(kTeacherPhase);
  stage.train_run(run_name("teacher"), kConfig, {files, "--run.stages=teacher"}, kConsoleEvery);
  stage.with_run(run_name("teacher"), [&](TrainedRun& run) {
    if (run.networks().at(workers::NetworkRole::kTeacher).average) run.use_average();
    save_teacher(run, trained);
  });
  return trained.string();
}

}  // namespace

void require_shapes_teacher(DemoStage& stage) {
  if (!stage.options().full) stage.on_first_rank([&] { check_teacher(shipped_teacher(stage)); });
}

std::vector<std::string> shapes_phases(bool full) {
  std::vector<std::string> phases = {kDataPhase};
  if (full) phases.emplace_back(kTeacherPhase);
  for (const char* phase : {kDmd2vPhase, kTmdPhase, kSamplingPhase}) phases.emplace_back(phase);
  return phases;
}

DemoResult demo_shapes(DemoStage& stage) {
  DemoTable table(stage, "shapes", metrics(), kSamples);
  const std::string data = stage.file("shapes.h5").string();
  stage.begin(kDataPhase);
  stage.on_first_rank(
      [&] { data::write_toy_shapes(data, data::ToyShapesSpec::mini(), kDataSeed, 0, kVideos); });
  const std::string files = "--data.files=" + data;
  const std::string teacher = "--model.weights=" + provide_teacher(stage, files);

  stage.begin(kDmd2vPhase);
  stage.train_run(run_name("dmd2v"), kConfig, {files, teacher, "--method.name=dmd2v", "--run.stages=stage2"},
                  kConsoleEvery);
  stage.begin(kTmdPhase);
  stage.train_run(run_name("tmd"), kConfig, {files, teacher, "--run.stages=stage1,stage2"}, kConsoleEvery);

  stage.begin(kSamplingPhase);
  stage.with_run(run_name("dmd2v"), [&](TrainedRun& run) {
    table.add(run, {"teacher, 50 steps", true, 50});
    table.add(run, {kFewSteps, true, 2});
    table.add(run, {kDmd2v, false, 2});
    table.add(run, {"DMD2-v, 1 step", false, 1}, DemoTable::Promise::kShownOnly);
  });
  stage.with_run(run_name("tmd"), [&](TrainedRun& run) {
    table.add(run, {kTmd, false, 2});
    table.add(run, {"TMD-N2, 1 step", false, 1}, DemoTable::Promise::kShownOnly);
  });
  DemoResult result;
  stage.on_first_rank([&] {
    result = table.result(fmt::format("Moving shapes with captions, {} samples a row", table.samples()));
    add_videos(table, result);
    if (!stage.options().quick) judge(table, result);
  });
  return result;
}

}  // namespace tmd::orchestrator
