#include "orchestrator/alarm_folder.h"

#include <charconv>
#include <fmt/format.h>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/latent_sheet.h"
#include "orchestrator/tensor_file.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kShownRows = 8;
constexpr std::string_view kPrefix = "step_";

at::Tensor rows_of(const std::vector<workers::KeptBatch>& own, auto member) {
  std::vector<at::Tensor> parts;
  for (const workers::KeptBatch& kept : own) parts.push_back(member(kept).detach().cpu().to(at::kFloat));
  return at::cat(parts, 0);
}

bool has_samples(const std::vector<workers::KeptBatch>& own) {
  return !own.empty() && own.front().x_hat.defined();
}

NamedTensors own_rows(const std::vector<workers::KeptBatch>& own) {
  std::vector<int64_t> samples, slots;
  for (const workers::KeptBatch& kept : own) {
    for (size_t row = 0; row < kept.batch.samples.size(); ++row) {
      samples.push_back(kept.batch.samples[row]);
      slots.push_back(kept.batch.first_slot + static_cast<int64_t>(row));
    }
  }
  NamedTensors tensors = {{"samples", at::tensor(samples, at::kLong)},
                          {"slots", at::tensor(slots, at::kLong)},
                          {"latents", rows_of(own, [](const auto& kept) { return kept.batch.latents; })}};
  if (has_samples(own)) tensors["x_hat"] = rows_of(own, [](const auto& kept) { return kept.x_hat; });
  return tensors;
}

nlohmann::json description(const Job& job, const AlarmedBatch& batch) {
  return {{"iteration", batch.iteration},
          {"stage", batch.stage},
          {"phase", method::name(batch.report.phase)},
          {"seed", job.config().run.seed},
          {"reason", batch.alarm.reason},
          {"text", batch.alarm.text},
          {"samples", batch.samples},
          {"loss", batch.report.loss},
          {"diag", batch.report.diag}};
}

// Helpful, but not worth to hide the alarm: weights of a decoder may be gone, the disk full.
void draw_or_warn(Job& job, const fs::path& folder, const NamedTensors& tensors) {
  try {
    const auto pictures = LatentPictures::make(job.data().header(), job.config().decoder);
    if (!pictures) return;
    const auto first = [&](const char* name) {
      const at::Tensor rows = tensors.at(name);
      const int64_t shown = pictures->is_plot() ? rows.size(0) : std::min(kShownRows, rows.size(0));
      return at::nan_to_num(rows.narrow(0, 0, shown));
    };
    std::vector<SheetColumn> columns = {{"data", first("latents")}};
    if (tensors.contains("x_hat")) columns.push_back({"x_hat", first("x_hat")});
    write_sheet(*pictures, columns, folder / "batch");
  } catch (const Error& e) {
    log_warning("no pictures of the batch: {}", e.what());
  }
}

}  // namespace

fs::path alarm_folder(const fs::path& run, int64_t iteration) {
  return run / "alarms" / fmt::format("{}{:08d}", kPrefix, iteration);
}

std::vector<int64_t> alarmed_iterations(const fs::path& run) {
  std::vector<int64_t> list;
  for (const fs::path& entry : list_folder(run / "alarms")) {
    const std::string name = entry.filename().string();
    int64_t step = 0;
    if (name.starts_with(kPrefix) &&
        std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step).ec == std::errc{})
      list.push_back(step);
  }
  return list;
}

void save_alarmed_batch(Job& job, const fs::path& run, const AlarmedBatch& batch) {
  comm::Communicator& trainers = job.trainers();
  const fs::path folder = alarm_folder(run, batch.iteration);
  comm::run_agreed(trainers, [&] {
    if (trainers.rank() != 0) return;
    remove_tree(folder);
    create_folders(folder);
    publish_file(folder / "alarm.json", description(job, batch).dump(1) + "\n");
  });
  comm::run_agreed(trainers, [&] {
    // Ranks that share samples hold the same rows.
    if (batch.own.empty() || job.mesh().sample_group().rank() != 0) return;
    const NamedTensors tensors = own_rows(batch.own);
    write_tensors(
        folder / fmt::format("rank_{:05d}.safetensors", trainers.rank()), tensors,
        {{"iteration", std::to_string(batch.iteration)}, {"seed", std::to_string(job.config().run.seed)}});
    if (trainers.rank() == 0) draw_or_warn(job, folder, tensors);
  });
}

}  // namespace tmd::orchestrator
