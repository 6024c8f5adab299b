#pragma once

#include <spdlog/fmt/fmt.h>

#include <filesystem>
#include <string>
#include <utility>

namespace tmd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Where this process logs. Rank 0 writes to the console and to its file, the others only to their file
/// (warnings and errors of every rank reach the console too).
/// Thread: call once before other threads log.
void configure_log(int rank, LogLevel console_level);

/// Adds `file` (created, appended to) as a sink of this process. Throws kIo when it cannot be opened.
void log_to_file(const std::filesystem::path& file);

/// Writes one line with time, rank and level in front. Thread: any.
void log_line(LogLevel level, const std::string& line);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tmd
