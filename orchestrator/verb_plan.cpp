#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/job.h"
#include "orchestrator/load_config.h"
#include "orchestrator/plan.h"
#include "orchestrator/plan_advice.h"
#include "orchestrator/planned_sample.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd plan CONFIG... --ranks N [--device h100|cpu|BYTES] [--latent C,T,H,W] [--section.key=value ...]

Says what a run of these files needs on each of N ranks (data workers included), before it is queued: bytes by item and
phase, the mesh, and the time of an iteration by a model whose assumptions it prints. It takes the steps of the run itself,
with its networks and collectives but without values, so nothing is trained and nothing large is allocated.

  tmd plan configs/wan1.3b-tmd.ini --ranks 8
  tmd plan configs/wan14b-tmd.ini --ranks 64 --device 80GB --mesh.replicate=2
  tmd plan configs/clips.ini --ranks 3 --device cpu --latent 16,4,8,12

BYTES (80e9, 80GB, 512MiB) are those of a rank's device, h100 has 80 GB; cpu is this host, shared by the ranks.
The sizes of a sample come from data.files, where they are named and there, else from --latent, else 16,21,60,104 (81 frames
of 480 x 832). Exit code 2 and up to three changes that fit, when this does not; 78 for a bad configuration.
)";

std::string advice_text(const std::vector<Advice>& advice, int ranks) {
  if (advice.empty()) return "none of the changes that were tried makes it fit\n";
  std::string text = "what fits, cheapest first:\n";
  for (const Advice& a : advice) {
    std::string words;
    if (a.ranks != ranks) words += fmt::format(" --ranks {}", a.ranks);
    for (const std::string& word : a.words) words += " " + word;
    text += fmt::format(" {}: {} a rank, {:.4g} rank hours\n", words, sharding::bytes_text(a.plan.peak()),
                        a.plan.run_seconds * a.ranks / 3600);
  }
  return text;
}

// The words behind `files`: plain words name configuration files.
struct Request {
  std::vector<std::string> files, words;
  int ranks = 1;
  std::string device, latent;
};

Request take_request(const std::vector<std::string>& words) {
  Request request;
  std::vector<std::string> own;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool is_setting =
        word.starts_with("--") && word.substr(0, word.find('=')).find('.') != std::string::npos;
    const bool names_value = is_setting && word.find('=') == std::string::npos && i + 1 < words.size();
    if (is_setting) {
      request.words.push_back(names_value ? word + "=" + words[++i] : word);
    } else {
      own.push_back(word);
    }
  }
  for (const std::string& word : own) {  // files may stand behind options with one value
    if (word.ends_with(".ini")) request.files.push_back(word);
  }
  std::erase_if(own, [](const std::string& word) { return word.ends_with(".ini"); });
  const Arguments arguments("plan", own, {"ranks", "device", "latent"});
  check(arguments.plain().empty(), ErrorKind::kUsage,
        arguments.plain().empty() ? "" : "tmd plan: " + arguments.plain().front() + " is no .ini file");
  check(!request.files.empty(), ErrorKind::kUsage, "tmd plan: name a configuration",
        "tmd plan --help shows examples");
  arguments.required("ranks");
  const int64_t ranks = arguments.integer_or("ranks", 1);
  check(ranks >= 1 && ranks <= 65536, ErrorKind::kUsage, fmt::format("tmd plan: --ranks {}", ranks));
  request.ranks = static_cast<int>(ranks);
  request.device = arguments.value_or("device", "h100");
  request.latent = arguments.value_or("latent", "");
  return request;
}

int plan_here(const Request& request) {
  const auto loaded = load_config(request.files, request.words);
  const configs::Config& config = loaded->config;
  const workers::RoleLayout roles =
      workers::lay_out_roles(request.ranks, static_cast<int>(config.data_workers));
  const workers::SampleShape shape = planned_sample("plan", config, request.latent);
  const PlanInput input{config, roles.trainers, shape, compute_type(config.train)};
  const DeviceModel device = device_model(request.device, roles.trainers, input.type);
  const Plan plan = make_plan(input, device);
  std::cout << plan_text(plan, device);
  if (plan.fits(device)) return 0;
  std::cout << "does not fit\n" << std::flush;
  std::cout << advice_text(advise(request.files, request.words, request.ranks, shape, request.device, 3),
                           request.ranks);
  return static_cast<int>(ErrorKind::kDoesNotFit);
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Request request = take_request(words);
  int64_t code = 0;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) code = plan_here(request);
  });
  return static_cast<int>(comm::agree_max(world, code));
}

}  // namespace

const Verb kPlanVerb{"plan", "say what a run needs before it is queued", kHelp, run};

}  // namespace tmd::orchestrator
