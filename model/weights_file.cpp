#include "model/weights_file.h"

#include <memory>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/publish.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

// Elements that are converted at once: read and written while they lie in the cache.
constexpr int64_t kPieceElements = int64_t{1} << 20;

std::string spelled(const NameInFile& name_in_file, const std::string& name) {
  return name_in_file ? name_in_file(name) : name;
}

// [D, 16, 1, 2, 2] and [D, 64] hold the same numbers in the same order.
bool differs_in_cut_only(const std::vector<int64_t>& stored, const std::vector<int64_t>& wanted) {
  if (stored.size() != 2 || wanted.size() <= 2 || stored[0] != wanted[0]) return false;
  int64_t rest = 1;
  for (size_t i = 1; i < wanted.size(); ++i) rest *= wanted[i];
  return stored[1] == rest;
}

void read_range(const SafetensorsSet::Tensor& tensor, at::ScalarType stored, int64_t begin,
                const at::Tensor& out) {
  const auto width = static_cast<uint64_t>(at::elementSize(stored));
  if (stored == out.scalar_type() && out.is_cpu()) {
    tensor.read(static_cast<uint64_t>(begin) * width, bytes_of(out));
    return;
  }
  const at::Tensor buffer = at::empty({std::min(kPieceElements, out.numel())}, stored);
  for (int64_t done = 0; done < out.numel(); done += kPieceElements) {
    const int64_t count = std::min(kPieceElements, out.numel() - done);
    const at::Tensor piece = buffer.narrow(0, 0, count);
    tensor.read(static_cast<uint64_t>(begin + done) * width, bytes_of(piece));
    out.narrow(0, done, count).copy_(piece);
  }
}

// A slice is one range of the file, or, cut along an inner dimension, many that stand in a row in the block.
void read_slice(const SafetensorsSet::Tensor& tensor, at::ScalarType stored, const sharding::Slice& slice,
                const at::Tensor& out) {
  const int64_t run = slice.run_elements();
  const bool is_one = slice.split_dim <= 0;
  for (int64_t at = slice.flat_begin; at < slice.flat_end;) {
    const int64_t end = is_one ? slice.flat_end : std::min(slice.flat_end, (at / run + 1) * run);
    read_range(tensor, stored, slice.place_in_tensor(at), out.narrow(0, at - slice.flat_begin, end - at));
    at = end;
  }
}

// On the host.
at::Tensor converted(const at::Tensor& tensor, at::ScalarType type, const std::string& name) {
  const at::Tensor whole = tensor.cpu();
  at::Tensor result = whole.to(type).contiguous();
  if (type == whole.scalar_type()) return result;
  const at::Tensor finite = at::isfinite(result);
  if (finite.all().item<bool>()) return result;
  const at::Tensor lost = at::isfinite(whole).logical_and_(finite.logical_not());
  if (!lost.any().item<bool>()) return result;
  throw Error(ErrorKind::kData,
              fmt::format("tensor {} holds {:g}, which is beyond the range of the type {}", name,
                          whole.masked_select(lost)[0].item<double>(), at::toString(type)),
              "take a type of larger range: --dtype bf16 or f32");
}

/// A tensor of the network on its way into a file.
struct Planned {
  int unit, param;
  size_t file;
};

struct WritePlan {
  std::vector<Planned> tensors;
  std::vector<std::vector<SafetensorsDeclaration>> files;
};

WritePlan plan_files(const sharding::ShardedNetwork& network, const SaveOptions& options) {
  WritePlan plan;
  uint64_t bytes = 0;
  const uint64_t bits = safetensors_bits(options.dtype).value();
  for (int unit = 0; unit < network.units(); ++unit) {
    const auto& params = network.spec(unit).params;
    for (size_t i = 0; i < params.size(); ++i) {
      const uint64_t size = static_cast<uint64_t>(params[i].elements()) * bits / 8;
      const bool is_full = options.largest_file > 0 && bytes + size > options.largest_file && bytes > 0;
      if (plan.files.empty() || is_full) {
        plan.files.emplace_back();
        bytes = 0;
      }
      bytes += size;
      plan.tensors.push_back({unit, static_cast<int>(i), plan.files.size() - 1});
      plan.files.back().push_back(
          {spelled(options.name_in_file, params[i].name), options.dtype, params[i].shape});
    }
  }
  return plan;
}

std::string file_name(const std::string& stem, size_t index, size_t count) {
  if (count == 1) return stem + ".safetensors";
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem, index + 1, count);
}

std::string index_json(const WritePlan& plan, const std::string& stem, uint64_t total_bytes) {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (size_t file = 0; file < plan.files.size(); ++file) {
    for (const SafetensorsDeclaration& tensor : plan.files[file])
      map[tensor.name] = file_name(stem, file, plan.files.size());
  }
  return nlohmann::ordered_json{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", map}}.dump(2) +
         "\n";
}

/// Writes the files of a plan one after the other.
class FilesWriter {
 public:
  FilesWriter(const WritePlan& plan, const std::filesystem::path& folder, const std::string& stem,
              const SaveOptions& options)
      : plan_(plan), folder_(folder), stem_(stem), options_(options) {}

  void append(const Planned& tensor, const std::string& name, const at::Tensor& values) {
    if (!writer_ || tensor.file != file_) {
      if (writer_) writer_->finish();
      file_ = tensor.file;
      writer_ = std::make_unique<SafetensorsWriter>(folder_ / file_name(stem_, file_, plan_.files.size()),
                                                    plan_.files[file_], options_.metadata);
    }
    writer_->append(name, bytes_of(values));
    total_bytes_ += values.nbytes();
  }

  void finish() {
    if (writer_) writer_->finish();
    if (plan_.files.size() > 1) {
      publish_file(folder_ / (stem_ + ".safetensors.index.json"), index_json(plan_, stem_, total_bytes_));
    }
  }

 private:
  const WritePlan& plan_;
  const std::filesystem::path& folder_;
  const std::string& stem_;
  const SaveOptions& options_;
  std::unique_ptr<SafetensorsWriter> writer_;
  size_t file_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace

void check_weights(const SafetensorsSet& files, const std::string& model,
                   std::span<const sharding::UnitSpec> units, const NameInFile& name_in_file) {
  std::vector<NamedShape> wanted, found;
  for (const sharding::UnitSpec& unit : units) {
    for (const sharding::ParamSpec& param : unit.params) {
      NamedShape& want = wanted.emplace_back(spelled(name_in_file, param.name), param.shape);
      const SafetensorsSet::Tensor* stored = files.find(want.name);
      if (stored && differs_in_cut_only(stored->entry->shape, want.shape)) want.shape = stored->entry->shape;
    }
  }
  for (const auto& [name, tensor] : files.tensors()) found.push_back({name, tensor.entry->shape});
  check_tensors(files.path().string(), model, wanted, found,
                "the sizes of the model must be those of the file");
  for (const auto& [name, tensor] : files.tensors())
    stored_type(tensor.entry->dtype, name, tensor.file->path().string());
}

void load_weights(sharding::ShardedNetwork& network, const SafetensorsSet& files,
                  const NameInFile& name_in_file) {
  std::vector<sharding::UnitSpec> units;
  for (int unit = 0; unit < network.units(); ++unit) units.push_back(network.spec(unit));
  check_weights(files, network.name(), units, name_in_file);
  sharding::fill_slices(network, [&](const sharding::Slice& slice, at::Tensor out) {
    const std::string name = spelled(name_in_file, slice.name);
    const SafetensorsSet::Tensor& tensor = *files.find(name);
    const at::ScalarType stored = stored_type(tensor.entry->dtype, name, tensor.file->path().string());
    read_slice(tensor, stored, slice, out);
  });
}

void save_weights(sharding::ShardedNetwork& network, const std::filesystem::path& folder,
                  const std::string& stem, const SaveOptions& options) {
  const at::ScalarType type = stored_type(options.dtype, "the export", stem);
  const WritePlan plan = plan_files(network, options);
  const bool writes = network.mesh().world().rank() == 0;
  FilesWriter writer(plan, folder, stem, options);
  std::exception_ptr failure;
  const auto attempt = [&](const auto& write) {
    if (!writes || failure) return;
    try {
      write();
    } catch (...) {
      failure = std::current_exception();  // the others still gather
    }
  };
  auto next = plan.tensors.begin();
  for (int unit = 0; unit < network.units(); ++unit) {
    const auto gathered = network.gather_master(unit);
    for (; next != plan.tensors.end() && next->unit == unit; ++next) {
      const at::Tensor whole = network.whole_parameter(unit, next->param, gathered.params[next->param]);
      attempt([&] {
        const std::string name = spelled(options.name_in_file, network.spec(unit).params[next->param].name);
        writer.append(*next, name, converted(whole, type, name));
      });
    }
  }
  attempt([&] { writer.finish(); });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace tmd::model
