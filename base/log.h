#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include <spdlog/fmt/fmt.h>

namespace tmd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Makes the console (stderr) the only place where this process logs: rank 0 shows `console_level` and above,
/// the other ranks warnings and errors. Opens no file and lets go of the one of log_to_file.
/// Thread: call before other threads log.
void configure_log(int rank, LogLevel console_level);

/// From now on lines of every level go to `file` too (created with its folders, or appended to), in the place
/// of an earlier file. Call after configure_log. Throws kIo when it cannot be opened.
/// Thread: call before other threads log.
void log_to_file(const std::filesystem::path& file);

/// Writes one line: on the console with time of day, rank and level in front, in files with date, time and
/// level, without the rank. Flushed at once unless kDebug. Thread: any.
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
