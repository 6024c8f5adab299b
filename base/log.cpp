#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "base/error.h"

namespace tmd {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void configure_log(int rank, LogLevel console_level) {
  auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  console->set_level(rank == 0 ? spdlog_level(console_level) : spdlog::level::warn);
  auto logger = std::make_shared<spdlog::logger>("tmd", console);
  logger->set_level(spdlog::level::debug);
  logger->set_pattern(fmt::format("[%H:%M:%S.%e] [rank {}] [%l] %v", rank));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void log_to_file(const std::filesystem::path& file) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
    sink->set_level(spdlog::level::debug);
    auto& sinks = spdlog::default_logger()->sinks();
    sinks.resize(1);  // the console; a file of an earlier run in this process is left
    sinks.push_back(sink);
    // A new sink starts with spdlog's own pattern; give it the console's layout without colours.
    sink->set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%l] %v");
  } catch (const spdlog::spdlog_ex& e) {
    throw Error(ErrorKind::kIo, fmt::format("cannot open the log file {}: {}", file.string(), e.what()));
  }
}

void log_line(LogLevel level, const std::string& line) { spdlog::log(spdlog_level(level), line); }

}  // namespace tmd
