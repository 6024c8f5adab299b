#include "orchestrator/html_report.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

bool contains(const HtmlReport& report, std::string_view text) {
  return report.html().find(text) != std::string::npos;
}

const ReportPicture kPng = {bytes_of("\x89PNG...."), "a disc"};

TEST(Base64, examples_of_the_standard) {
  EXPECT_EQ(base64(bytes_of("")), "");
  EXPECT_EQ(base64(bytes_of("f")), "Zg==");
  EXPECT_EQ(base64(bytes_of("fo")), "Zm8=");
  EXPECT_EQ(base64(bytes_of("foo")), "Zm9v");
  EXPECT_EQ(base64(bytes_of("foobar")), "Zm9vYmFy");
  EXPECT_EQ(base64(bytes_of("\xff\xfe\xfd")), "//79");
}

TEST(EscapeHtml, characters_with_a_meaning_are_replaced) {
  EXPECT_EQ(escape_html("a < b && \"c\" > 'd'"), "a &lt; b &amp;&amp; &quot;c&quot; &gt; &#39;d&#39;");
}

TEST(HtmlReport, texts_appear_in_order_and_escaped) {
  HtmlReport report("Run <1>");
  report.heading("Results");
  report.paragraph("M < N");
  report.preformatted("a  b");
  const std::string html = report.html();
  EXPECT_TRUE(contains(report, "<title>Run &lt;1&gt;</title>"));
  const size_t title = html.find("<h1>Run &lt;1&gt;</h1>"), heading = html.find("<h2>Results</h2>");
  const size_t paragraph = html.find("<p>M &lt; N</p>"), code = html.find("<pre>a  b</pre>");
  EXPECT_TRUE(title < heading && heading < paragraph && paragraph < code && code != std::string::npos);
}

TEST(HtmlReport, page_is_whole_and_loads_nothing) {
  HtmlReport report("Run");
  report.picture(kPng);
  EXPECT_TRUE(report.html().starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(report.html().ends_with("</html>\n"));
  EXPECT_FALSE(contains(report, "http"));
  EXPECT_FALSE(contains(report, "<script"));
  EXPECT_TRUE(contains(report, "color-scheme: light dark"));
}

TEST(HtmlReport, table_marks_the_row_that_is_asked_for) {
  HtmlReport report("Run");
  const std::vector<std::string> headings = {"model", "FD"};
  report.table(headings, std::vector<ReportRow>{{{"teacher", "1.0"}}, {{"<b>", "0.5"}, true}});
  EXPECT_TRUE(contains(report, "<tr><th>model</th><th>FD</th></tr>"));
  EXPECT_TRUE(contains(report, "<tr><td>teacher</td><td>1.0</td></tr>"));
  EXPECT_TRUE(contains(report, "<tr class=\"mark\"><td>&lt;b&gt;</td><td>0.5</td></tr>"));
  EXPECT_THROW(report.table(headings, std::vector<ReportRow>{{{"only one"}}}), Error);
}

TEST(HtmlReport, pictures_are_embedded_by_their_type) {
  HtmlReport report("Run");
  report.picture(kPng);
  report.picture({bytes_of("RIFF\x10\x01\x01\x01WEBPVP8X"), ""});
  EXPECT_TRUE(contains(report, "alt=\"a disc\" src=\"data:image/png;base64," + base64(kPng.bytes) + "\""));
  EXPECT_TRUE(contains(report, "<figcaption>a disc</figcaption>"));
  EXPECT_TRUE(contains(report, "src=\"data:image/webp;base64,UklGR"));
  EXPECT_THROW(report.picture({bytes_of("GIF89a.........."), ""}), Error);
}

TEST(HtmlReport, picture_table_has_labels_and_headings) {
  HtmlReport report("Run");
  const std::vector<std::string> headings = {"teacher", "student"};
  report.picture_table(headings, std::vector<ReportPictureRow>{{"red disc", {kPng, kPng}}});
  EXPECT_TRUE(contains(report, "<tr><th></th><th>teacher</th><th>student</th></tr>"));
  EXPECT_TRUE(contains(report, "<tr><td>red disc</td><td><figure>"));
  EXPECT_THROW(report.picture_table(headings, std::vector<ReportPictureRow>{{"x", {kPng}}}), Error);
}

TEST(HtmlReport, heading_level_beyond_four_is_an_error) {
  HtmlReport report("Run");
  report.heading("deep", 4);
  EXPECT_TRUE(contains(report, "<h4>deep</h4>"));
  EXPECT_THROW(report.heading("title", 1), Error);
  EXPECT_THROW(report.heading("deeper", 5), Error);
}

}  // namespace
}  // namespace tmd::orchestrator
