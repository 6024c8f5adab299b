#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tmd::orchestrator {

/// A picture inside a report.
struct ReportPicture {
  std::vector<std::byte> bytes;  ///< content of a PNG or WebP file
  std::string description;       ///< shown below, and where the picture cannot be shown
};

/// One line of a table.
struct ReportRow {
  std::vector<std::string> cells;
  bool is_highlighted = false;
};

/// A row of pictures under common headings, e.g. one prompt drawn by each model.
struct ReportPictureRow {
  std::string label;
  std::vector<ReportPicture> pictures;
};

/// A page in one file: style and pictures are inside, nothing is loaded from elsewhere, no script; light or
/// dark as the reader's browser prefers. Every text is escaped. Elements appear in the order of the calls.
class HtmlReport {
 public:
  explicit HtmlReport(std::string_view title);

  /// Level 2 to 4; the title is level 1. Throws kInternal for another level.
  void heading(std::string_view text, int level = 2);
  void paragraph(std::string_view text);
  /// Text as it is, in a fixed-width face: commands, settings, a console table.
  void preformatted(std::string_view text);
  /// The first column is left-aligned, the others right-aligned. Throws kInternal for a row with another
  /// number of cells than headings.
  void table(std::span<const std::string> headings, std::span<const ReportRow> rows);
  /// Shown pixel by pixel when enlarged. Throws kInternal when the bytes are neither PNG nor WebP.
  void picture(const ReportPicture& picture);
  /// One column for each heading, labels on the left. Throws as table and picture do.
  void picture_table(std::span<const std::string> headings, std::span<const ReportPictureRow> rows);

  /// The whole page.
  std::string html() const;
  /// html(), published under `path` (base/publish.h). Throws kIo.
  void write(const std::filesystem::path& path) const;

 private:
  std::string title_;
  std::string body_;
};

/// Replaces the characters that mean something in HTML text and attributes.
std::string escape_html(std::string_view text);
/// RFC 4648, with padding.
std::string base64(std::span<const std::byte> bytes);

}  // namespace tmd::orchestrator
