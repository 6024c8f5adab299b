#include "orchestrator/html_report.h"

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/publish.h"

namespace tmd::orchestrator {
namespace {

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --line: #8884; --mark: #ffd54f55; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, h4 { line-height: 1.2; margin: 2em 0 .5em; }
h1 { margin-top: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0; }
th, td { padding: .3em .7em; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.mark td { background: var(--mark); font-weight: 600; }
.pictures th, .pictures td { text-align: center; vertical-align: top; }
figure { display: inline-block; margin: .5em 0; }
figcaption { color: var(--soft); font-size: .85em; white-space: normal; }
img { max-width: 100%; image-rendering: pixelated; }
pre { overflow-x: auto; padding: .8em; border: 1px solid var(--line); border-radius: 4px; font-size: .85em; }
)";

std::string_view media_type(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x89PNG")) return "image/png";
  ensure(text.size() > 12 && text.starts_with("RIFF") && text.substr(8, 4) == "WEBP",
         "a picture of a report is a PNG or a WebP");
  return "image/webp";
}

std::string figure(const ReportPicture& picture) {
  const std::string description = escape_html(picture.description);
  std::string html = fmt::format("<figure><img alt=\"{}\" src=\"data:{};base64,{}\">", description,
                                 media_type(picture.bytes), base64(picture.bytes));
  if (!description.empty()) html += fmt::format("<figcaption>{}</figcaption>", description);
  return html + "</figure>";
}

std::string heading_row(std::span<const std::string> headings) {
  std::string html = "<tr>";
  for (const std::string& heading : headings) html += fmt::format("<th>{}</th>", escape_html(heading));
  return html + "</tr>\n";
}

}  // namespace

HtmlReport::HtmlReport(std::string_view title)
    : title_(escape_html(title)), body_(fmt::format("<h1>{}</h1>\n", title_)) {}

void HtmlReport::heading(std::string_view text, int level) {
  ensure(level >= 2 && level <= 4, "a heading has level 2, 3 or 4");
  body_ += fmt::format("<h{0}>{1}</h{0}>\n", level, escape_html(text));
}

void HtmlReport::paragraph(std::string_view text) { body_ += fmt::format("<p>{}</p>\n", escape_html(text)); }

void HtmlReport::preformatted(std::string_view text) {
  body_ += fmt::format("<pre>{}</pre>\n", escape_html(text));
}

void HtmlReport::table(std::span<const std::string> headings, std::span<const ReportRow> rows) {
  std::string html = "<div class=\"wide\"><table>\n" + heading_row(headings);
  for (const ReportRow& row : rows) {
    ensure(row.cells.size() == headings.size(), "a row of a table has one cell for each heading");
    html += row.is_highlighted ? "<tr class=\"mark\">" : "<tr>";
    for (const std::string& cell : row.cells) html += fmt::format("<td>{}</td>", escape_html(cell));
    html += "</tr>\n";
  }
  body_ += html + "</table></div>\n";
}

void HtmlReport::picture(const ReportPicture& picture) {
  body_ += fmt::format("<div class=\"wide\">{}</div>\n", figure(picture));
}

void HtmlReport::picture_table(std::span<const std::string> headings,
                               std::span<const ReportPictureRow> rows) {
  std::vector<std::string> all = {""};
  all.insert(all.end(), headings.begin(), headings.end());
  std::string html = "<div class=\"wide\"><table class=\"pictures\">\n" + heading_row(all);
  for (const ReportPictureRow& row : rows) {
    ensure(row.pictures.size() == headings.size(), "a row of pictures has one for each heading");
    html += fmt::format("<tr><td>{}</td>", escape_html(row.label));
    for (const ReportPicture& picture : row.pictures) html += fmt::format("<td>{}</td>", figure(picture));
    html += "</tr>\n";
  }
  body_ += html + "</table></div>\n";
}

std::string HtmlReport::html() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
      title_, kStyle, body_);
}

void HtmlReport::write(const std::filesystem::path& path) const { publish_file(path, html()); }

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string base64(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j)
      word = word << 8 | (j < count ? std::to_integer<uint32_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += j <= count ? kDigits[word >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

}  // namespace tmd::orchestrator
