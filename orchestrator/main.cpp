// tmd: distils text-to-video transformers with Transition Matching Distillation. One MPI program; see `tmd
// --help`.

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <malloc.h>
#include <optional>

#include <torch/version.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/mpi_runtime.h"
#include "configs/nearest.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/same_program.h"
#include "orchestrator/verbs.h"
#include "sharding/memory_counter.h"

namespace {

using namespace tmd;

void print_help() {
  std::cout
      << "tmd VERB [options]: distil text-to-video transformers with Transition Matching Distillation\n\n";
  for (const orchestrator::Verb& verb : orchestrator::verbs()) {
    std::cout << "  " << verb.name << std::string(10 - std::string(verb.name).size(), ' ') << verb.summary
              << "\n";
  }
  std::cout << "\ntmd VERB --help explains a verb; tmd --version prints versions.\n"
               "On several ranks: mpirun -n 3 tmd train --config configs/clips.ini --run runs/clips "
               "--data.files=clips.h5\n";
}

const orchestrator::Verb& find_verb(const std::string& name) {
  std::vector<std::string> names;
  for (const orchestrator::Verb& verb : orchestrator::verbs()) {
    if (name == verb.name) return verb;
    names.emplace_back(verb.name);
  }
  throw Error(ErrorKind::kUsage, "there is no verb '" + name + "'",
              "did you mean " + configs::nearest_name(name, names) + "?");
}

bool wants_help(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word == "--help" || word == "-h") return true;
  }
  return false;
}

int report(const Error& error) {
  log_error("{} (exit code {}): {}", name(error.kind()), error.exit_code(), error.what());
  if (!error.hint().empty()) log_error("hint: {}", error.hint());
  return error.exit_code();
}

// One rank's error ends all ranks: the others may wait for it in a collective. A lone process just ends,
// without the page that MPI prints when it aborts.
int leave(std::optional<comm::MpiRuntime>& mpi, int code) {
  if (mpi && mpi->world().size() > 1) mpi->abort(code);
  std::cout.flush();
  std::_Exit(code);
}

// A launcher that does not understand this MPI starts many worlds of one rank each; training would run, and
// be wrong.
void check_world_size(int size) {
  const comm::Allocation launched = comm::launched_ranks();
  if (launched.ranks <= 1 || size == launched.ranks || size > 1) return;
  throw Error(ErrorKind::kUnavailable,
              "this process is the only rank of its world, but " + launched.source + " = " +
                  std::to_string(launched.ranks),
              "the launcher and MPI do not fit: try srun --mpi=pmix (srun --mpi=list shows what there is), "
              "or mpirun");
}

int run_verb(comm::Communicator& world, const std::string& name, const std::vector<std::string>& words) {
  check_world_size(world.size());
  orchestrator::check_same_program(world, name);
  const orchestrator::Verb& verb = find_verb(name);
  return verb.run(world, words);
}

// Freed blocks stay in the process: giving them back to the kernel after every layer costs more than the
// layer.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2047 * (1 << 20));
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_help();
    return words.empty() ? static_cast<int>(ErrorKind::kUsage) : 0;
  }
  if (words[0] == "--version") {
    std::cout << "tmd " << orchestrator::code_version() << ", LibTorch " << TORCH_VERSION << "\n";
    return 0;
  }
  configure_log(0, LogLevel::kInfo);
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  try {
    if (wants_help(rest)) {
      std::cout << find_verb(words[0]).help;
      return 0;
    }
    find_verb(words[0]);
  } catch (const Error& e) {
    return report(e);
  }
  keep_freed_memory();
  sharding::install_memory_counter();
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit becomes a write error that is handled like a full disk
  std::optional<comm::MpiRuntime> mpi;
  try {
    mpi.emplace();
    configure_log(mpi->world().rank(), LogLevel::kInfo);
    const int code = run_verb(mpi->world(), words[0], rest);
    mpi->finalize();
    return code;
  } catch (const Error& e) {
    return leave(mpi, report(e));
  } catch (const std::bad_alloc&) {
    return leave(mpi, report(Error(ErrorKind::kDoesNotFit, "the host gives no more memory",
                                   "`tmd plan` says what a rank needs")));
  } catch (const std::exception& e) {
    return leave(mpi, report(Error(ErrorKind::kInternal, e.what())));
  }
}
