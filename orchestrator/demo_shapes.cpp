#include <ATen/ATen.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/file.h"
#include "base/safetensors.h"
#include "data/toy_file.h"
#include "model/weights_file.h"
#include "orchestrator/demo.h"
#include "orchestrator/pictures.h"
#include "orchestrator/png_file.h"
#include "orchestrator/previews.h"
#include "orchestrator/webp_file.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kConfig = "demo-shapes.ini";
constexpr const char* kTeacherFile = "demo-shapes-teacher.safetensors";
constexpr uint64_t kDataSeed = 1, kEvaluationSeed = 77;
constexpr int64_t kVideos = 8192, kSamples = 256, kConsoleEvery = 20, kShown = 8;

std::string run_name(const std::string& name) { return "shapes/" + name; }

// The shipped teacher carries the hash of its own tensors in its metadata; a damaged or edited file is refused.
void check_teacher(const std::filesystem::path& path) {
  check(std::filesystem::exists(path), ErrorKind::kData, fmt::format("{} is not there", path.string()),
        "tmd demo --full trains the teacher from nothing; tmd demo --only mixture does without it");
  const SafetensorsFile file(path);
  const auto stated = file.metadata().find("xxh3_64");
  Xxh3 hash;
  for (const SafetensorsEntry& entry : file.entries()) {
    const std::vector<std::byte> bytes = file.read(entry);
    hash.update(bytes);
  }
  check(stated != file.metadata().end() && stated->second == fmt::format("{:016x}", hash.digest()), ErrorKind::kData,
        fmt::format("{} is damaged: its tensors do not have the hash that it states", path.string()),
        "restore the file from the repository, or train it anew with tmd demo --full");
}

class Rows {
 public:
  explicit Rows(DemoStage& stage) : stage_(stage) {}

  void add(TrainedRun& run, const Contender& contender) {
    if (!evaluator_ && stage_.speaks()) {
      evaluator_ = Evaluator::make(run.job().data(), kSamples, kEvaluationSeed);
      pictures_ = LatentPictures::make(run.job().data().header());
    }
    stage_.say("sampling " + contender.name);
    rows_.push_back(evaluate(run, contender, evaluator_.get(), kSamples, kEvaluationSeed));
  }

  void finish(DemoResult& result) {
    stage_.on_first_rank([&] {
      result.headings = table_headings(*evaluator_);
      result.cells = table_cells(*evaluator_, rows_);
      show_videos();
      judge(result);
    });
  }

 private:
  const EvaluationRow& row(const std::string& name) const {
    for (const EvaluationRow& candidate : rows_) {
      if (candidate.name == name) return candidate;
    }
    throw Error(ErrorKind::kInternal, "the demo has no row " + name);
  }

  void show_videos() {
    std::vector<std::string> titles = {"sample"};
    std::vector<ReportPictureRow> table;
    for (int64_t i = 0; i < kShown; ++i) table.push_back({std::to_string(i + 1), {}});
    for (const EvaluationRow& row : rows_) {
      titles.push_back(row.name);
      const auto videos = pictures_->videos(row.samples.narrow(0, 0, kShown));
      for (int64_t i = 0; i < kShown; ++i) {
        const at::Tensor large = upscaled(videos[static_cast<size_t>(i)], 6);
        table[static_cast<size_t>(i)].pictures.push_back({encode_webp(large), row.name});
      }
    }
    stage_.report().heading("Moving shapes: same prompts, same noise");
    stage_.report().picture_table(titles, table);
  }

  // What the demo promises: the two-step students are nearer the data than the two-step teacher.
  void judge(DemoResult& result) const {
    const EvaluationRow& few = row("teacher, 2 steps");
    for (const char* name : {"DMD2-v, 2 steps", "TMD-N2, 2 steps"}) {
      const EvaluationRow& student = row(name);
      if (student.score.distance >= few.score.distance) {
        result.failures.push_back(fmt::format("{}: Frechet distance {:.2f}, the 2-step teacher has {:.2f}", name,
                                              student.score.distance, few.score.distance));
      }
      if (student.score.accuracy <= few.score.accuracy) {
        result.failures.push_back(fmt::format("{}: joint accuracy {:.1f} %, the 2-step teacher has {:.1f} %", name,
                                              100 * student.score.accuracy, 100 * few.score.accuracy));
      }
    }
  }

  DemoStage& stage_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<LatentPictures> pictures_;
  std::vector<EvaluationRow> rows_;
};

void save_teacher(TrainedRun& run, const std::filesystem::path& path) {
  // Written twice: the hash of the tensors goes into the metadata of the final file.
  model::save_weights(run.teacher(), path, "BF16", {});
  Xxh3 hash;
  const SafetensorsFile file(path);
  for (const SafetensorsEntry& entry : file.entries()) {
    const std::vector<std::byte> bytes = file.read(entry);
    hash.update(bytes);
  }
  model::save_weights(run.teacher(), path, "BF16",
                      {{"what", "teacher of the moving-shapes toy"}, {"xxh3_64", fmt::format("{:016x}", hash.digest())}});
}

// The shipped teacher, or with --full one that is trained now.
std::string provide_teacher(DemoStage& stage, const std::string& files) {
  if (!stage.options().full) {
    const std::filesystem::path shipped = stage.options().configs / kTeacherFile;
    stage.on_first_rank([&] { check_teacher(shipped); });
    return shipped.string();
  }
  const std::filesystem::path trained = stage.file(kTeacherFile);
  stage.say("moving shapes: training the teacher from nothing");
  stage.train_run(run_name("teacher"), kConfig, {files, "--run.stages=teacher"}, kConsoleEvery);
  stage.with_run(run_name("teacher"), [&](TrainedRun& run) {
    if (run.networks().at(workers::NetworkRole::kTeacher).average) run.use_average();
    save_teacher(run, trained);
  });
  return trained.string();
}

}  // namespace

DemoResult demo_shapes(DemoStage& stage) {
  DemoResult result{.title = "Moving shapes, captioned (256 samples a row)", .headings = {}, .cells = {}, .failures = {}};
  const std::string data = stage.file("shapes.h5").string();
  stage.say("moving shapes: writing the data set");
  stage.on_first_rank([&] { data::write_toy_shapes(data, data::ToyShapesSpec::mini(), kDataSeed, 0, kVideos); });
  const std::string files = "--data.files=" + data;
  const std::string teacher = "--model.weights=" + provide_teacher(stage, files);

  stage.say("moving shapes: distilling with DMD2-v");
  stage.train_run(run_name("dmd2v"), kConfig, {files, teacher, "--method.name=dmd2v", "--run.stages=stage2"}, kConsoleEvery);
  stage.say("moving shapes: distilling with TMD (stages 1 and 2)");
  stage.train_run(run_name("tmd"), kConfig, {files, teacher, "--run.stages=stage1,stage2"}, kConsoleEvery);

  Rows rows(stage);
  stage.with_run(run_name("dmd2v"), [&](TrainedRun& run) {
    rows.add(run, {"teacher, 50 steps", true, 50});
    rows.add(run, {"teacher, 2 steps", true, 2});
    rows.add(run, {"DMD2-v, 2 steps", false, 2});
    rows.add(run, {"DMD2-v, 1 step", false, 1});
  });
  stage.with_run(run_name("tmd"), [&](TrainedRun& run) {
    rows.add(run, {"TMD-N2, 2 steps", false, 2});
    rows.add(run, {"TMD-N2, 1 step", false, 1});
  });
  rows.finish(result);
  return result;
}

}  // namespace tmd::orchestrator
