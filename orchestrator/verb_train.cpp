#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/load_config.h"
#include "orchestrator/train.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd train --config FILE... --run DIR [--section.key=value ...] [--allow-change KEY...]
          [--resume] [--fresh] [--log-every N] [--fault kind:rank:phase:step]

Runs the stages of a configuration: teacher, stage1, kd, stage2. The same command again goes on from the newest intact
checkpoint in DIR. Several --config files: later wins; --section.key=value wins over files. An experiment key that differs
from the folder's is refused unless it is named behind --allow-change, and always where it makes another network or student;
mesh, limits and previews may always change.

--resume: an error where there is no checkpoint (with --fresh: then start anew); --fresh alone: an error where there is one.

  mpirun -n 3 tmd train --config configs/clips.ini --run runs/clips --data.files=clips.h5
  mpirun -n 5 tmd train --config configs/clips.ini --run runs/long --data.files=clips.h5 --stage2.iterations=8000

SIGTERM, SIGUSR1, SIGUSR2, run.max_minutes and TMD_END_TIME (seconds since 1970) save, write DIR/verdict.json and end with exit
code 75: the same command goes on.
--fault kind:rank:phase:step injects a failure once in a run folder, to see what happens then. Kinds: kill stop throw nan slow enospc.
Phases: batch compute reduce update metrics write commit.

tmd inspect options lists every key.
)";

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const ConfigFiles split = take_config_files(words);
  const auto loaded = load_config(split.files, split.rest);
  const Arguments arguments("train", loaded->other_words, {"run", "log-every", "fault"}, {"resume", "fresh"},
                            {"allow-change"});
  const int64_t console_every = arguments.integer_or("log-every", 1);
  check(console_every >= 1, ErrorKind::kUsage, "tmd train: --log-every must be at least 1");
  comm::agree_equal(world, loaded->table->resolved_ini(), "the configuration");
  const std::string fault = arguments.value_or("fault", "");
  return train(world, loaded->config, *loaded->table,
               {.run = arguments.required("run"),
                .allowed_changes = arguments.all("allow-change"),
                .console_every = console_every,
                .must_resume = arguments.has("resume"),
                .must_be_fresh = arguments.has("fresh"),
                .fault = fault,
                .title = ""});
}

}  // namespace

const Verb kTrainVerb{"train", "train a teacher, distil a student", kHelp, run};

}  // namespace tmd::orchestrator
