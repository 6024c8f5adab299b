#include "base/error.h"
#include "orchestrator/arguments.h"
#include "orchestrator/demo.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kHelp =
    R"(tmd demo [--full] [--quick] [--only mixture|shapes] [--run DIR] [--configs DIR]

Distils two toys with the code paths of a real run: MPI ranks, a data worker, sharded networks, checkpoints.
The 2-D mixture is trained from nothing; the moving shapes start from a shipped teacher, or with --full from nothing too.
--quick runs everything at a tenth of the iterations, to see that it runs; its numbers promise nothing.
Prints a table for each and writes DIR/report.html (default DIR: runs/demo, with --quick
runs/demo-quick). Exit code 1 when a promise is missed.
Started again, it goes on where it was.

  scripts/demo
  mpirun -n 3 tmd demo --only mixture
)";

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("demo", words, {"only", "run", "configs"}, {"full", "quick"});
  DemoOptions options;
  options.full = arguments.has("full");
  options.quick = arguments.has("quick");
  options.folder = arguments.value_or("run", options.quick ? "runs/demo-quick" : options.folder.string());
  options.configs = arguments.value_or("configs", options.configs.string());
  const std::string only = arguments.value_or("only", "");
  check(only.empty() || only == "mixture" || only == "shapes", ErrorKind::kUsage,
        "tmd demo: --only is mixture or shapes, not " + only);
  options.mixture = only != "shapes";
  options.shapes = only != "mixture";
  return run_demo(world, options);
}

}  // namespace

const Verb kDemoVerb{"demo", "train and distil two toys, print tables, write a report", kHelp, run};

}  // namespace tmd::orchestrator
