#include "orchestrator/previews.h"

#include <fmt/format.h>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"

namespace tmd::orchestrator {

using workers::NetworkRole;

namespace {

constexpr uint64_t kPreviewSeed = 20250101;  // previews of all runs start from the same noise
constexpr int64_t kPlotPoints = 512;

}  // namespace

Previews::Previews(Job& job, std::filesystem::path folder) : job_(job), folder_(std::move(folder)) {
  if (job_.config().preview.every < 0) return;
  const data::LatentHeader& header = job_.data().header();
  comm::run_agreed(job_.trainers(), [&] {
    if (job_.trainers().rank() == 0) pictures_ = LatentPictures::make(header, job_.config().decoder);
  });
  is_on_ = comm::agree_any(job_.trainers(), pictures_ != nullptr);
  if (!is_on_) return;
  const bool is_plot = LatentPictures::is_plot(header);
  if (pictures_ && !is_plot) log_info("previews are decoded by {}", pictures_->decoder_name());
  const int64_t wanted = is_plot ? kPlotPoints : job_.config().preview.prompts;
  const int64_t rows = std::min(wanted, job_.data().size());
  std::vector<at::Tensor> text, latents;
  for (int64_t i = 0; i < rows; ++i) {
    const auto read = job_.data().read(i);
    const auto* sample = std::get_if<data::Sample>(&read);
    // A broken sample is reported when it is trained on. All ranks must show the same rows.
    if (!comm::agree_all(job_.trainers(), sample != nullptr)) continue;
    text.push_back(sample->text);
    latents.push_back(sample->latent);
    prompts_.push_back(sample->prompt);
  }
  if (text.empty()) {
    is_on_ = false;
    return;
  }
  data_latents_ = at::stack(latents, 0);
  request_ = {.text = at::stack(text, 0),
              .negative_text = job_.negative_text(),
              .latent_shape = job_.latent_shape(),
              .seed = kPreviewSeed,
              .first_number = 0,
              .batch = is_plot ? kPlotPoints : job_.config().sampler.batch};
}

void Previews::at_stage_begin(workers::StageNetworks& networks, int64_t iteration) {
  // The end of the stage before has shown the same networks.
  if (is_on_ && last_made_ != iteration) make(networks, iteration);
}

bool Previews::is_due(int64_t iteration, bool stage_ends) const {
  const int64_t every = job_.config().preview.every;
  return is_on_ && (stage_ends || (every > 0 && iteration % every == 0));
}

void Previews::after_iteration(workers::StageNetworks& networks, int64_t iteration, bool stage_ends) {
  if (is_due(iteration, stage_ends)) make(networks, iteration);
}

at::Tensor Previews::teacher_samples(workers::StageNetworks& networks) {
  if (frozen_samples_.defined()) return frozen_samples_;
  workers::TrainedNetwork& teacher = networks.at(NetworkRole::kTeacher);
  if (teacher.average) teacher.average->swap(*teacher.network);
  const at::Tensor samples = sample_teacher(job_.plan(), *teacher.network, job_.config().sampler, request_);
  if (teacher.average) teacher.average->swap(*teacher.network);
  if (!teacher.optimizer) frozen_samples_ = samples;
  return samples;
}

std::vector<SheetColumn> Previews::columns(workers::StageNetworks& networks) {
  std::vector<SheetColumn> list = {
      {"data", data_latents_},
      {fmt::format("teacher, {} steps", job_.config().sampler.steps), teacher_samples(networks)}};
  if (!networks.has(NetworkRole::kStudent)) return list;
  workers::TrainedNetwork& student = networks.at(NetworkRole::kStudent);
  const workers::MethodOptions& method = job_.config().stages.method;
  const auto sample = [&] { return sample_student(job_.plan(), *student.network, method, request_); };
  list.push_back(
      {fmt::format("student, {} step{}", method.outer_steps, method.outer_steps == 1 ? "" : "s"), sample()});
  if (student.average) {
    student.average->swap(*student.network);
    list.push_back({"student's average", sample()});
    student.average->swap(*student.network);
  }
  return list;
}

void Previews::make(workers::StageNetworks& networks, int64_t iteration) {
  const std::vector<SheetColumn> list = columns(networks);
  last_made_ = iteration;
  comm::run_agreed(job_.trainers(), [&] {
    if (job_.trainers().rank() == 0) write_or_warn(list, iteration);
  });
}

// Pictures are not worth a run: a full disk costs them alone.
void Previews::write_or_warn(const std::vector<SheetColumn>& list, int64_t iteration) const {
  try {
    write(list, iteration);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kIo) throw;
    log_warning("no preview of iteration {}, training goes on: {}", iteration, e.what());
  }
}

void Previews::write(const std::vector<SheetColumn>& list, int64_t iteration) const {
  std::string titles;
  nlohmann::json names = nlohmann::json::array();
  for (const SheetColumn& column : list) {
    titles += (titles.empty() ? "" : " | ") + column.title;
    names.push_back(column.title);
  }
  const std::filesystem::path stem = folder_ / fmt::format("step_{:08d}", iteration);
  write_sheet(*pictures_, list, stem);
  const nlohmann::json rows =
      pictures_->is_plot() ? nlohmann::json(data_latents_.size(0)) : nlohmann::json(prompts_);
  const nlohmann::json description = {
      {"iteration", iteration}, {"columns", names}, {"rows", rows}, {"noise_seed", kPreviewSeed}};
  publish_file(stem.string() + ".json",
               description.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  log_info("preview {}.png: {}", stem.string(), titles);
}

}  // namespace tmd::orchestrator
