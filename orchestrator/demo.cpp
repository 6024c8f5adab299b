#include "orchestrator/demo.h"

#include <fmt/format.h>
#include <iostream>

#include "comm/agree.h"
#include "orchestrator/metrics_log.h"

namespace tmd::orchestrator {
namespace {

std::vector<std::string> planned_phases(const DemoOptions& options) {
  std::vector<std::string> phases;
  if (options.mixture) phases = mixture_phases();
  if (!options.shapes) return phases;
  for (std::string& phase : shapes_phases(options.full)) phases.push_back(std::move(phase));
  return phases;
}

const char* note(const DemoOptions& options) {
  return options.quick ? "quick: a tenth of the iterations, the numbers promise nothing"
                       : "in brackets: what the README shows";
}

void show(const DemoResult& result, const DemoOptions& options) {
  std::cout << "\n"
            << result.title << " (" << note(options) << ")\n"
            << aligned_table(result.headline.headings, result.headline.cells);
  for (const std::string& failure : result.failures) std::cout << "MISSED: " << failure << "\n";
}

void write_table(const TextTable& table, HtmlReport& report) {
  std::vector<ReportRow> rows;
  for (const auto& cells : table.cells) rows.push_back({cells, false});
  report.table(table.headings, rows);
}

void write(const DemoResult& result, const DemoOptions& options, HtmlReport& report) {
  report.heading(result.title);
  report.paragraph(note(options));
  write_table(result.headline, report);
  for (const std::string& failure : result.failures) report.paragraph("Missed: " + failure);
  report.heading(result.pictures_title, 3);
  report.picture_table(result.picture_headings, result.pictures);
  report.heading("Every number", 3);
  write_table(result.all, report);
}

}  // namespace

int run_demo(comm::Communicator& world, const DemoOptions& options) {
  DemoStage stage(world, options, planned_phases(options));
  if (options.shapes) require_shapes_teacher(stage);  // before the mixture takes its minutes
  std::vector<DemoResult> results;
  if (options.mixture) results.push_back(demo_mixture(stage));
  if (options.shapes) results.push_back(demo_shapes(stage));
  int64_t missed = 0;
  stage.on_first_rank([&] {
    for (const DemoResult& result : results) {
      show(result, options);
      write(result, options, stage.report());
      missed += static_cast<int64_t>(result.failures.size());
    }
  });
  stage.write_results();
  if (stage.is_first_rank()) {
    std::cout << fmt::format("\n{} in {}. Pictures and tables: {}\n",
                             missed == 0 ? "Done" : "Done, with misses", duration_text(stage.seconds()),
                             stage.file("report.html").string())
              << "Next: mpirun -n 3 build/release/tmd train --config configs/clips.ini --run runs/clips "
                 "--data.files=tests/golden/clips_slice.h5\n";
  }
  stage.close();
  return comm::agree_max(world, missed) == 0 ? 0 : 1;
}

}  // namespace tmd::orchestrator
