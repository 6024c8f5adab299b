// check_case DIR [--dtype f64|f32] [--mesh REPLICATE,SHARD,SEQUENCE,TENSOR]: computes a golden case with our
// own networks on a mesh of the ranks that it runs on (default: all shard), and compares every expected
// tensor and scalar. Prints the worst tensor; exit code 1 when one is outside its limit.

#include <cstdio>
#include <iostream>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "case_runner.h"
#include "comm/mpi_runtime.h"
#include "golden_case.h"
#include "method/grids.h"

namespace {

using namespace tmd;

struct Arguments {
  std::string folder;
  at::ScalarType type = at::kDouble;
  sharding::MeshShape mesh;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--dtype" && i + 1 < argc) {
      const std::string dtype = argv[++i];
      check(dtype == "f64" || dtype == "f32", ErrorKind::kUsage, "--dtype is f64 or f32, not " + dtype);
      arguments.type = dtype == "f64" ? at::kDouble : at::kFloat;
    } else if (word == "--mesh" && i + 1 < argc) {
      sharding::MeshShape& mesh = arguments.mesh;
      const int read = std::sscanf(argv[++i], "%ld,%ld,%ld,%ld", &mesh.replicate, &mesh.shard, &mesh.sequence,
                                   &mesh.tensor);
      check(read == 4, ErrorKind::kUsage, "--mesh takes four extents, as in 1,2,1,1");
      const std::string text = argv[i], end = ",two_level";
      mesh.two_level = text.ends_with(end);
      const std::string extents = text.substr(0, text.size() - (mesh.two_level ? end.size() : 0));
      check(extents.find_first_not_of("0123456789,") == std::string::npos, ErrorKind::kUsage,
            "--mesh takes four extents, and two_level behind them: " + text);
    } else {
      check(arguments.folder.empty() && word[0] != '-', ErrorKind::kUsage, "unexpected argument " + word);
      arguments.folder = word;
    }
  }
  check(!arguments.folder.empty(), ErrorKind::kUsage,
        "usage: check_case DIR [--dtype f64|f32] [--mesh R,S,Q,T[,two_level]]");
  return arguments;
}

int run(const Arguments& arguments, comm::Communicator& world) {
  golden::GoldenCase golden = golden::read_case(arguments.folder, arguments.type);
  const model::WanConfig& wan = golden.plan.model.wan;
  const auto mesh =
      sharding::resolve_mesh(arguments.mesh, world.size(), {.heads = wan.heads, .ffn = wan.ffn});
  golden::CaseRunner runner(golden, world, arguments.type, mesh);
  const golden::Comparison comparison = runner.run();
  if (world.rank() == 0) comparison.print(std::cout, world.size());
  return comparison.passed() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  comm::MpiRuntime mpi;
  configure_log(mpi.world().rank(), LogLevel::kWarning);
  at::set_num_threads(1);
  try {
    const int code = run(parse(argc, argv), mpi.world());
    mpi.finalize();
    return code;
  } catch (const Error& e) {
    std::cerr << "check_case: " << e.what() << "\n";
    if (!e.hint().empty()) std::cerr << "hint: " << e.hint() << "\n";
    mpi.abort(e.exit_code());
  } catch (const std::exception& e) {
    std::cerr << "check_case: " << e.what() << "\n";
    mpi.abort(static_cast<int>(ErrorKind::kData));
  }
}
