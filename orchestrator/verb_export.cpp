#include <algorithm>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "comm/agree.h"
#include "orchestrator/arguments.h"
#include "orchestrator/export_folder.h"
#include "orchestrator/loaded_wan.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/trained_run.h"
#include "orchestrator/verbs.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHelp =
    R"(tmd export RUN|MODEL --output DIR [--for tmd|wan|diffusers|comfyui] [--dtype bf16|f16|f32] [--average] [--teacher]

Writes weights that other tools load, into a new folder. RUN is a run folder or one of its checkpoints/step_*; its student
is written (--teacher: its teacher; --average: the average of the weights that the run trains; not both). MODEL is a folder
or file of a published Wan model or an earlier export, which is converted.

  --for tmd         students: student.safetensors with tmd_wan.py, a Python module that loads and samples it (default)
  --for wan         the original code's layout; --for diffusers: transformer/ and scheduler/; --for comfyui: one file.
                    These three hold a stock Wan transformer: a DMD2-v student or a teacher. A TMD student has a flow head,
                    which stock Wan lacks.
  --dtype           default bf16 for a run. A model keeps its bits: f16 or bf16 if all its tensors have that type, else f32;
                    of a model in f64, which no export has, say what it becomes. Numbers beyond the range of f16 are refused.

Every export carries its step schedule and shift in the metadata, embeddings.h5 with a few prompts and the negative prompt
where they are known, and a README.md that says how to run it. Any number of ranks exports a run.

  mpirun -n 2 tmd export runs/shapes-tmd --output exported
  mpirun -n 2 tmd export runs/shapes-dmd2v --for diffusers --dtype bf16 --output exported-diffusers
  tmd export Wan2.1-T2V-1.3B --for diffusers --output Wan2.1-T2V-1.3B-Diffusers
)";

std::string dtype_name(const std::string& word) {
  if (word == "f32") return "F32";
  if (word == "f16") return "F16";
  if (word == "bf16") return "BF16";
  throw Error(ErrorKind::kUsage, "tmd export: there is no --dtype " + word, "take bf16, f16 or f32");
}

ExportInfo info_of(TrainedRun& run, bool teacher, bool average) {
  const configs::Config& config = run.config();
  ExportInfo info;
  info.is_teacher = teacher;
  info.method = config.stages.method;
  info.sampler = config.sampler;
  info.student = run.job().plan().student;
  info.student.wan = config.model.wan;
  info.latents = run.job().data().header();
  info.source = nlohmann::json{{"run", plain_path(run.run_folder()).filename().string()},
                               {"step", run.step()},
                               {"average", average},
                               {"code_version", code_version()}}
                    .dump();
  return info;
}

void export_run(comm::Communicator& world, const Arguments& arguments, ExportRequest request) {
  check(!arguments.has("teacher") || !arguments.has("average"), ErrorKind::kUsage,
        "tmd export: --average is of the network that the run trains, --teacher of the one that it only uses",
        "leave one of the two out; of a run that trains its teacher --average alone takes that");
  TrainedRun run(world, arguments.plain().front());
  const bool teacher = arguments.has("teacher") || run.student() == nullptr;
  check(run.config().model.kind == model::ModelKind::kWan, ErrorKind::kData,
        "the perceptron of a toy is no Wan transformer", "tmd sample runs it from the run's folder");
  if (arguments.has("average")) run.use_average();
  request.dtype = dtype_name(arguments.value_or("dtype", "bf16"));
  request.config = run.config().model.wan;
  request.info = info_of(run, teacher, arguments.has("average"));
  require_target(request.target, request.info);
  comm::run_agreed(world,
                   [&] { request.prompts = read_prompts(run.job().data(), run.config().preview.prompts); });
  write_export(teacher ? run.teacher() : *run.student(), request, arguments.required("output"));
  run.close();
}

// The embeddings of an export go on with it.
std::optional<Prompts> prompts_beside(const fs::path& model) {
  const std::optional<fs::path> file = embeddings_of(model);
  if (!file) return {};
  data::DataSet set({*file});
  return read_prompts(set, set.size());
}

// By default the type in which no number changes.
std::string dtype_for(const model::WanWeights& weights, const Arguments& arguments) {
  if (arguments.has("dtype")) return dtype_name(arguments.required("dtype"));
  const std::vector<std::string> there = weights.dtypes();
  check(std::ranges::find(there, "F64") == there.end(), ErrorKind::kUsage,
        weights.files.path().string() + " holds tensors in F64, a type that exports do not have",
        "--dtype f32 rounds them");
  const bool is_narrow = there.size() == 1 && (there.front() == "F16" || there.front() == "BF16");
  return is_narrow ? there.front() : "F32";
}

void export_model(comm::Communicator& world, const Arguments& arguments, ExportRequest request) {
  check(!arguments.has("teacher") && !arguments.has("average"), ErrorKind::kUsage,
        "tmd export: --teacher and --average are for runs");
  const fs::path source = arguments.plain().front();
  OpenedWan opened(world, source);
  comm::run_agreed(world, [&] {
    request.config = opened.weights->config;
    request.info = opened.info;
    require_target(request.target, request.info);
    request.dtype = dtype_for(*opened.weights, arguments);
    request.prompts = prompts_beside(source);
  });
  // What ends up in bfloat16 may be rounded to it while it is read.
  LoadedWan loaded(world, std::move(opened), request.dtype == "BF16" ? Precision::kBf16 : Precision::kF32);
  write_export(loaded.network(), request, arguments.required("output"));
  loaded.close();
}

int run(comm::Communicator& world, const std::vector<std::string>& words) {
  const Arguments arguments("export", words, {"for", "dtype", "output"}, {"average", "teacher"});
  check(arguments.plain().size() == 1, ErrorKind::kUsage, "tmd export: name one run or model",
        "tmd export --help");
  const std::string output = arguments.required("output");
  ExportRequest request;
  request.target = parse_target(arguments.value_or("for", "tmd"));
  dtype_name(arguments.value_or("dtype", "bf16"));  // refused before the work, as is a folder that exists
  comm::run_agreed(world, [&] { require_new_folder(output); });
  if (is_run(arguments.plain().front())) {
    export_run(world, arguments, request);
  } else {
    export_model(world, arguments, request);
  }
  if (world.rank() == 0) log_info("exported to {}", output);
  return 0;
}

}  // namespace

const Verb kExportVerb{"export", "write weights for diffusers, ComfyUI and others", kHelp, run};

}  // namespace tmd::orchestrator
