#include "orchestrator/library_versions.h"

#include <dlfcn.h>
#include <fmt/core.h>
#include <gnu/libc-version.h>
#include <sys/utsname.h>

#include <ATen/Version.h>
#include <boost/version.hpp>
#include <nlohmann/json.hpp>
#include <spdlog/version.h>
#include <torch/version.h>

#include "orchestrator/run_folder.h"

namespace tmd::orchestrator {
namespace {

// The dynamic linker is asked, since the headers of C libraries are each included by one file of another
// folder, and because what is loaded counts, which need not be what was built against.
template <class Function>
Function* function_named(const char* symbol) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_DEFAULT, symbol));
}

std::string three_numbers(unsigned major, unsigned minor, unsigned patch) {
  return fmt::format("{}.{}.{}", major, minor, patch);
}

// "Open MPI v4.1.4, package: Debian OpenMPI, ...": up to the first comma.
std::string mpi_version() {
  constexpr int kLongest = 8192;  // MPICH's MPI_MAX_LIBRARY_VERSION_STRING, the longest known
  const auto ask = function_named<int(char*, int*)>("MPI_Get_library_version");
  if (!ask) return "unknown";
  std::string text(kLongest, '\0');
  int length = 0;
  if (ask(text.data(), &length) != 0) return "unknown";
  text.resize(static_cast<size_t>(length));
  return text.substr(0, text.find_first_of(",\n"));
}

std::string hdf5_version() {
  const auto ask = function_named<int(unsigned*, unsigned*, unsigned*)>("H5get_libversion");
  unsigned major = 0, minor = 0, patch = 0;
  return ask && ask(&major, &minor, &patch) >= 0 ? three_numbers(major, minor, patch) : "unknown";
}

std::string png_version() {
  const auto ask = function_named<uint32_t()>("png_access_version_number");
  if (!ask) return "unknown";
  const uint32_t number = ask();
  return three_numbers(number / 10000, number / 100 % 100, number % 100);
}

std::string webp_version() {
  const auto ask = function_named<int()>("WebPGetEncoderVersion");
  if (!ask) return "unknown";
  const auto number = static_cast<unsigned>(ask());
  return three_numbers(number >> 16, number >> 8 & 0xff, number & 0xff);
}

// "2.18.5 (Git Hash ...)" out of oneDNN's sentence.
std::string word_after(const std::string& text, const std::string& start) {
  const size_t at = text.find(start);
  if (at == std::string::npos) return "none";
  const size_t begin = at + start.size();
  return text.substr(begin, text.find(' ', begin) - begin);
}

std::string system_version() {
  utsname names{};
  return ::uname(&names) == 0 ? fmt::format("{} {}", names.sysname, names.release) : "unknown";
}

}  // namespace

std::vector<LibraryVersion> library_versions() {
  return {
      {"tmd", code_version(), "this program"},
      {"LibTorch", TORCH_VERSION,
       fmt::format("tensors, operators, autograd; kernels for {}", at::get_cpu_capability())},
      {"oneDNN", word_after(at::get_mkldnn_version(), "Intel(R) MKL-DNN v"),
       "convolutions and bfloat16 products of LibTorch"},
      {"MPI", mpi_version(), "ranks and host communication"},
      {"HDF5", hdf5_version(), "latents and embeddings"},
      {"Boost", three_numbers(BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100),
       "options on the command line and in files"},
      {"spdlog", three_numbers(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH), "log lines"},
      {"fmt", three_numbers(FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100), "texts"},
      {"nlohmann-json",
       three_numbers(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH),
       "metrics and manifests"},
      {"libpng", png_version(), "pictures"},
      {"libwebp", webp_version(), "animated previews"},
      {"glibc", gnu_get_libc_version(), "the C library"},
      {"kernel", system_version(), "the host's system"}};
}

// 22809 is 2.28.9.
std::string nccl_version() {
  const auto ask = function_named<int(int*)>("ncclGetVersion");
  int number = 0;
  if (!ask || ask(&number) != 0) return {};
  const auto v = static_cast<unsigned>(number);
  return three_numbers(v / 10000, v / 100 % 100, v % 100);
}

}  // namespace tmd::orchestrator
