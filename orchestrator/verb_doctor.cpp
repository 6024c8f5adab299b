#include <charconv>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "base/folder.h"
#include "base/publish.h"
#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/doctor.h"
#include "orchestrator/load_config.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd doctor [--config FILE...] [--run DIR] [--seconds S] [--deadline S] [--json FILE] [--section.key=value ...]

Looks at the hosts and ranks that it is started on before a run does, and says what is fine, what is not, and what to do:
versions, launcher and world size, ranks by host, program and configuration on all ranks, clocks, cores and threads, memory,
limits, devices, a write test with free space, every operation of the communicator, and the speed of each rank.

  --config, --section.key=value   also check a configuration, its data and its mesh, and whether two checkpoints have room
  --run DIR      where to write the test files (default: the current folder); they are removed, and DIR is not created
  --seconds S    of the speed check (default 5, at most 3600); 0 leaves it out
  --deadline S   when a step takes longer (default 120), the report ends with what is known, and all ranks end with 69
  --json FILE    the same findings, and what was found on each rank

Start it as the run would be started:

  mpirun -n 3 tmd doctor --config configs/clips.ini --run runs/clips --data.files clips.h5
  srun --mpi=pmix tmd doctor --run /shared/runs --json doctor.json

Exit code 0 without errors (warnings may be there), else that of the first error: 69 when ranks or MPI do not work, 74 when
the folder cannot be written or has no room, 65 and 78 for data and configuration.
)";

constexpr double kMostSeconds = 3600;

double seconds_of(const Arguments& arguments, const std::string& name, double otherwise) {
  if (!arguments.has(name)) return otherwise;
  const std::string text = arguments.required(name);
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(failure == std::errc() && end == text.data() + text.size() && value >= 0 && value <= kMostSeconds,
        ErrorKind::kUsage, fmt::format("tmd doctor: --{} is {}", name, text),
        fmt::format("give a number from 0 to {}", kMostSeconds));
  return value;
}

// Options of the configuration have a dot in their name, those of the verb have none.
struct Words {
  std::vector<std::string> settings, own;
};
Words divide(const std::vector<std::string>& words) {
  Words result;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string name = words[i].substr(0, words[i].find('='));
    if (!name.starts_with("--") || name.find('.') == std::string::npos) {
      result.own.push_back(words[i]);
    } else if (name.size() == words[i].size() && i + 1 < words.size()) {
      result.settings.push_back(name + "=" + words[++i]);
    } else {
      result.settings.push_back(words[i]);
    }
  }
  return result;
}

// On rank 0.
void show(const Diagnosis& diagnosis, const fs::path& file) {
  std::cout << findings_text(diagnosis.findings) << std::flush;
  if (file.empty()) return;
  const nlohmann::json json = {{"version", code_version()},
                               {"environment", environment(static_cast<int>(diagnosis.ranks.size()))},
                               {"exit_code", diagnosis.code},
                               {"errors", count(diagnosis.findings, Severity::kError)},
                               {"warnings", count(diagnosis.findings, Severity::kWarning)},
                               {"findings", findings_json(diagnosis.findings)},
                               {"ranks", diagnosis.ranks}};
  publish_file(file, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const ConfigFiles files = take_config_files(words);
  const Words divided = divide(files.rest);
  const Arguments arguments("doctor", divided.own, {"run", "seconds", "deadline", "json"});
  arguments.refuse_plain();
  DoctorRequest request;
  request.config_files = files.files;
  request.settings = divided.settings;
  request.run = arguments.value_or("run", ".");
  request.seconds = seconds_of(arguments, "seconds", request.seconds);
  request.deadline_s = seconds_of(arguments, "deadline", request.deadline_s);
  check(request.deadline_s > 0, ErrorKind::kUsage, "tmd doctor: --deadline must be above 0");
  const fs::path file = arguments.value_or("json", "");
  request.show_unfinished = [&](const Diagnosis& diagnosis) { show(diagnosis, file); };
  comm::run_agreed(world, [&] {
    if (world.rank() == 0 && file.has_parent_path()) create_folders(file.parent_path());
  });
  const Diagnosis diagnosis = diagnose(world, request);
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) show(diagnosis, file);
  });
  return diagnosis.code;
}

}  // namespace

const Verb kDoctorVerb{"doctor", "check hosts, ranks, storage and MPI before a run", kHelp, run};

}  // namespace tmd::orchestrator
