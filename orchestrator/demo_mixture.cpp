#include <ATen/ATen.h>
#include <fmt/format.h>

#include "data/toy_file.h"
#include "model/weights_file.h"
#include "orchestrator/demo.h"
#include "orchestrator/png_file.h"
#include "orchestrator/previews.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kConfig = "demo-mixture.ini";
constexpr uint64_t kDataSeed = 1, kEvaluationSeed = 77;
constexpr int64_t kPoints = 16384, kSamples = 8192, kConsoleEvery = 500, kPlotted = 1500;

struct Student {
  const char* name;
  std::vector<std::string> words;
};

const std::vector<Student>& students() {
  static const std::vector<Student> list = {
      {"DMD2-v", {"--method.name=dmd2v", "--run.stages=stage2"}},
      {"TM", {"--method.name=tm", "--run.stages=stage1"}},
      {"TMD", {"--method.name=tmd", "--run.stages=stage1,stage2"}},
  };
  return list;
}

std::string run_name(const std::string& name) { return "mixture/" + name; }

class Rows {
 public:
  explicit Rows(DemoStage& stage) : stage_(stage) {}

  void add(TrainedRun& run, const Contender& contender) {
    make_evaluator(run);
    stage_.say("sampling " + contender.name);
    rows_.push_back(evaluate(run, contender, evaluator_.get(), kSamples, kEvaluationSeed));
  }

  void finish(DemoResult& result) {
    stage_.on_first_rank([&] {
      result.headings = table_headings(*evaluator_);
      result.cells = table_cells(*evaluator_, rows_);
      const at::Tensor real = data::toy_mixture_latents({}, kDataSeed, 0, kPlotted);
      ReportPictureRow plots{"", {}};
      std::vector<std::string> titles = {""};
      for (const EvaluationRow& row : rows_) {
        plots.pictures.push_back({encode_png(pictures_->plot(real, row.samples.narrow(0, 0, kPlotted))), row.name});
        titles.push_back(row.name);
      }
      const std::vector<ReportPictureRow> table = {plots};
      stage_.report().heading("2-D mixture: data grey, samples blue");
      stage_.report().picture_table(titles, table);
      judge(result);
    });
  }

 private:
  void make_evaluator(TrainedRun& run) {
    if (evaluator_ || !stage_.speaks()) return;
    evaluator_ = Evaluator::make(run.job().data(), kSamples, kEvaluationSeed);
    pictures_ = LatentPictures::make(run.job().data().header());
  }

  void judge(DemoResult& result) const {
    const EvaluationRow& few = rows_[1];
    if (rows_[0].score.accuracy < 1) result.failures.push_back("the 50-step teacher does not cover all 8 modes");
    for (size_t i = 2; i < rows_.size(); ++i) {
      const EvaluationRow& row = rows_[i];
      if (row.score.accuracy < 1) result.failures.push_back(row.name + " does not cover all 8 modes");
      if (row.score.distance >= few.score.distance) {
        result.failures.push_back(fmt::format("{} is not nearer the data (sliced W2 {:.3f}) than the 2-step teacher ({:.3f})",
                                              row.name, row.score.distance, few.score.distance));
      }
    }
  }

  DemoStage& stage_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<LatentPictures> pictures_;
  std::vector<EvaluationRow> rows_;
};

}  // namespace

DemoResult demo_mixture(DemoStage& stage) {
  DemoResult result{.title = "2-D mixture of 8 Gaussians, students with 2 steps", .headings = {}, .cells = {}, .failures = {}};
  const std::string data = stage.file("mixture.h5").string(), weights = stage.file("mixture_teacher.safetensors").string();
  stage.on_first_rank([&] { data::write_toy_mixture(data, {}, kDataSeed, 0, kPoints); });
  const std::string files = "--data.files=" + data;

  stage.say("2-D mixture: training the teacher");
  stage.train_run(run_name("teacher"), kConfig, {files, "--run.stages=teacher"}, kConsoleEvery);
  Rows rows(stage);
  stage.with_run(run_name("teacher"), [&](TrainedRun& run) {
    if (run.networks().at(workers::NetworkRole::kTeacher).average) run.use_average();
    model::save_weights(run.teacher(), weights, "F32", {{"what", "teacher of the 2-D mixture"}});
    rows.add(run, {"teacher, 50 steps", true, 50});
    rows.add(run, {"teacher, 2 steps", true, 2});
  });
  for (const Student& student : students()) {
    stage.say(fmt::format("2-D mixture: distilling with {}", student.name));
    std::vector<std::string> words = {files, "--model.weights=" + weights};
    words.insert(words.end(), student.words.begin(), student.words.end());
    stage.train_run(run_name(student.name), kConfig, words, kConsoleEvery);
    stage.with_run(run_name(student.name), [&](TrainedRun& run) { rows.add(run, {student.name, false, 2}); });
  }
  rows.finish(result);
  return result;
}

}  // namespace tmd::orchestrator
