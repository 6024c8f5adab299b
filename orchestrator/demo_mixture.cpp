#include <fmt/format.h>

#include <ATen/ATen.h>

#include "comm/agree.h"
#include "data/toy_file.h"
#include "model/weights_file.h"
#include "orchestrator/demo.h"
#include "orchestrator/png_file.h"

namespace tmd::orchestrator {
namespace {

using Better = DemoMetric::Better;

constexpr const char* kConfig = "demo-mixture.ini";
constexpr const char* kFewSteps = "teacher, 2 steps";
constexpr uint64_t kDataSeed = 1;
constexpr int64_t kPoints = 16384, kSamples = 8192, kConsoleEvery = 500, kPlotted = 1500;

const std::vector<DemoMetric>& metrics() {
  static const std::vector<DemoMetric> list = {
      {"sliced_w2", "sliced W2", 1, 3, Better::kLess, 0.15},
      {"modes_covered", "modes of 8", 1, 0, Better::kMore, 0},
      {"mode_tv", "mode TV", 1, 3, Better::kLess, 0.05},
      {"junk", "junk %", 100, 2, Better::kLess, 0.12},
  };
  return list;
}

struct Student {
  const char* run;   // its folder
  const char* name;  // its row
  std::vector<std::string> words;
  int64_t inner_steps;  // 0: as trained
};

// Plain transition matching is not distilled inside: its head is a flow that takes many Euler steps, and it
// has to be trained to the end. With two numbers a sample S / (S + c) at c = d would bend its means towards
// medians; a large c is plain MSE.
const std::vector<Student>& students() {
  static const std::vector<Student> list = {
      {"dmd2v", "DMD2-v", {"--method.name=dmd2v", "--run.stages=stage2"}, 0},
      {"tm",
       "TM, 16 inner steps",
       {"--method.name=tm", "--run.stages=stage1", "--stage1.iterations=2000", "--stage1.lr=4e-3",
        "--stage1.c_per_element=1000"},
       16},
      {"tmd", "TMD", {"--method.name=tmd", "--run.stages=stage1,stage2"}, 0},
  };
  return list;
}

std::string run_name(const std::string& name) { return "mixture/" + name; }
std::string phase_name(const std::string& name) { return "2-D mixture: " + name; }

void add_plots(const DemoTable& table, DemoResult& result) {
  const at::Tensor real = data::toy_mixture_latents({}, kDataSeed, 0, kPlotted);
  result.pictures_title = "data grey, samples blue";
  ReportPictureRow plots{"", {}};
  for (const EvaluationRow& row : table.rows()) {
    const at::Tensor plot =
        table.pictures().plot(real, row.samples.narrow(0, 0, std::min(kPlotted, table.samples())));
    plots.pictures.push_back({encode_png(plot), row.name});
    result.picture_headings.push_back(row.name);
  }
  result.pictures.push_back(std::move(plots));
}

void judge(const DemoTable& table, DemoResult& result) {
  const double few = table.row(kFewSteps).score.distance;
  for (const EvaluationRow& row : table.rows()) {
    if (row.name == kFewSteps) continue;
    if (row.score.accuracy < 1) result.failures.push_back(row.name + " does not cover all 8 modes");
    if (row.score.distance < few) continue;
    result.failures.push_back(
        fmt::format("{} is not nearer the data (sliced W2 {:.3f}) than the 2-step teacher ({:.3f})", row.name,
                    row.score.distance, few));
  }
}

}  // namespace

std::vector<std::string> mixture_phases() {
  std::vector<std::string> phases = {phase_name("teacher")};
  for (const Student& student : students()) phases.push_back(phase_name(student.name));
  return phases;
}

DemoResult demo_mixture(DemoStage& stage) {
  DemoTable table(stage, "mixture", metrics(), kSamples);
  stage.begin(phase_name("teacher"));
  const std::string data = stage.file("mixture.h5").string(),
                    weights = stage.file("mixture_teacher.safetensors").string();
  stage.on_first_rank([&] { data::write_toy_mixture(data, {}, kDataSeed, 0, kPoints); });
  const std::string files = "--data.files=" + data;
  stage.train_run(run_name("teacher"), kConfig, {files, "--run.stages=teacher"}, kConsoleEvery);
  stage.with_run(run_name("teacher"), [&](TrainedRun& run) {
    if (run.networks().at(workers::NetworkRole::kTeacher).average) run.use_average();
    comm::run_agreed(run.job().trainers(), [&] {
      model::save_weights(run.teacher(), stage.options().folder, "mixture_teacher",
                          {.metadata = {{"format", "pt"}, {"what", "teacher of the 2-D mixture"}}});
    });
    table.add(run, {"teacher, 50 steps", true, 50});
    table.add(run, {kFewSteps, true, 2});
  });
  for (const Student& student : students()) {
    stage.begin(phase_name(student.name));
    std::vector<std::string> words = {files, "--model.weights=" + weights};
    words.insert(words.end(), student.words.begin(), student.words.end());
    stage.train_run(run_name(student.run), kConfig, words, kConsoleEvery);
    stage.with_run(run_name(student.run), [&](TrainedRun& run) {
      table.add(run, {student.name, false, 2, student.inner_steps});
    });
  }
  DemoResult result;
  stage.on_first_rank([&] {
    result = table.result("2-D mixture of 8 Gaussians, students with 2 steps");
    add_plots(table, result);
    if (!stage.options().quick) judge(table, result);
  });
  return result;
}

}  // namespace tmd::orchestrator
