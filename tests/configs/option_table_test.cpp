#include "configs/option_table.h"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::configs {
namespace {
namespace fs = std::filesystem;

enum class Precision { kFp32, kBf16 };

struct Config {
  int64_t seed = 1;
  std::vector<std::string> stages = {"teacher", "stage1"};
  int64_t global_batch = 8;
  double lr = 1e-4;
  Precision precision = Precision::kFp32;
  bool ema = true;
  std::vector<std::string> files;
  std::vector<int64_t> taps = {1, 2};
  uint64_t key = 7;
};

/// A table as the program declares it, with a fresh set of variables.
struct Fixture {
  Config config;
  OptionTable table;

  Fixture() {
    OptionTable::Section run = table.section("run", "What is run");
    run.add("seed", &config.seed, "first number of every random draw").min(0).experiment();
    run.add("stages", &config.stages, "stages in order").one_of({"teacher", "stage1", "stage2"}).experiment();
    run.add("key", &config.key, "any number");
    OptionTable::Section train = table.section("train");
    train.add("global_batch", &config.global_batch, "samples per iteration over all ranks")
        .min(1)
        .max(1024)
        .experiment();
    train.add("lr", &config.lr, "learning rate").above(0).below(1).experiment();
    train.add("precision", &config.precision, {{"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}},
              "type of the gathered weights");
    train.add("ema", &config.ema, "keep a moving average");
    OptionTable::Section data = table.section("data", "Where samples come from");
    data.add("files", &config.files, "HDF5 files or globs");
    data.add("taps", &config.taps, "block indices").min(0);
  }
};

fs::path write_file(const std::string& name, const std::string& text) {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  fs::path path = fs::path(testing::TempDir()) /
                  (std::string("tmd_") + info->name() + std::to_string(::getpid()) + "_" + name + ".ini");
  std::ofstream(path) << text;
  return path;
}

template <class Function>
Error error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorKind::kInternal, "");
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(OptionTable, file_sets_every_type) {
  Fixture f;
  std::vector<fs::path> files = {write_file("a", R"(# a comment
[run]
seed = 12
stages = stage1,stage2
key = 18446744073709551615
[train]
global_batch=16   # samples
lr = 2.5e-5
precision = bf16
ema = no
[data]
files = a.h5, dir/*.h5
taps = 5
)")};

  f.table.parse_files(files);

  EXPECT_EQ(f.config.seed, 12);
  EXPECT_EQ(f.config.stages, (std::vector<std::string>{"stage1", "stage2"}));
  EXPECT_EQ(f.config.key, 18446744073709551615u);
  EXPECT_EQ(f.config.global_batch, 16);
  EXPECT_EQ(f.config.lr, 2.5e-5);
  EXPECT_EQ(f.config.precision, Precision::kBf16);
  EXPECT_FALSE(f.config.ema);
  EXPECT_EQ(f.config.files, (std::vector<std::string>{"a.h5", "dir/*.h5"}));
  EXPECT_EQ(f.config.taps, (std::vector<int64_t>{5}));
}

TEST(OptionTable, later_file_wins_and_the_command_line_wins_over_files) {
  Fixture f;
  std::vector<fs::path> files = {write_file("a", "[run]\nseed = 2\n[train]\nlr = 0.5\nglobal_batch = 3\n"),
                                 write_file("b", "[train]\nlr = 0.25\nglobal_batch = 4\n")};

  f.table.parse_files(files);
  f.table.parse_command_line({"--train.global_batch=5", "--train.global_batch", "6"});

  EXPECT_EQ(f.config.seed, 2);
  EXPECT_EQ(f.config.lr, 0.25);
  EXPECT_EQ(f.config.global_batch, 6);
}

TEST(OptionTable, command_line_returns_what_belongs_to_the_verb) {
  Fixture f;

  std::vector<std::string> rest = f.table.parse_command_line(
      {"--config", "a.ini", "--run.seed", "3", "b.ini", "--run=runs/x.y", "--data.files=q.h5", "--fresh"});

  EXPECT_EQ(rest, (std::vector<std::string>{"--config", "a.ini", "b.ini", "--run=runs/x.y", "--fresh"}));
  EXPECT_EQ(f.config.seed, 3);
  EXPECT_EQ(f.config.files, (std::vector<std::string>{"q.h5"}));
}

TEST(OptionTable, command_line_value_may_be_negative_and_is_judged_by_its_range) {
  Fixture f;
  Error error = error_of([&] { f.table.parse_command_line({"--run.seed", "-1"}); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_TRUE(contains(error.what(), "run.seed = \"-1\"")) << error.what();
}

TEST(OptionTable, command_line_without_value_is_a_usage_error) {
  Fixture f;
  EXPECT_EQ(error_of([&] { f.table.parse_command_line({"--run.seed"}); }).kind(), ErrorKind::kUsage);
  EXPECT_EQ(error_of([&] { f.table.parse_command_line({"--run.seed="}); }).kind(), ErrorKind::kUsage);
}

TEST(OptionTable, unknown_key_names_the_nearest_and_the_source) {
  Fixture f;
  std::vector<fs::path> files = {write_file("a", "[train]\nglobl_batch = 4\n")};

  Error in_file = error_of([&] { f.table.parse_files(files); });
  Error on_line = error_of([&] { f.table.parse_command_line({"--trian.lr=1"}); });

  EXPECT_EQ(in_file.kind(), ErrorKind::kConfig);
  EXPECT_TRUE(contains(in_file.what(), "train.globl_batch")) << in_file.what();
  EXPECT_TRUE(contains(in_file.what(), files[0].string())) << in_file.what();
  EXPECT_TRUE(contains(in_file.hint(), "train.global_batch")) << in_file.hint();
  EXPECT_TRUE(contains(on_line.what(), "command line")) << on_line.what();
  EXPECT_TRUE(contains(on_line.hint(), "train.lr")) << on_line.hint();
}

TEST(OptionTable, key_without_its_section_is_an_error_that_offers_the_full_name) {
  Fixture f;
  std::vector<fs::path> files = {write_file("a", "seed = 4\n")};
  EXPECT_TRUE(contains(error_of([&] { f.table.parse_files(files); }).hint(), "run.seed"));
}

TEST(OptionTable, illegal_values_name_key_value_legal_range_and_file) {
  Fixture f;
  auto refused = [&](const std::string& text) {
    std::vector<fs::path> files = {write_file("a", text)};
    Error error = error_of([&] { f.table.parse_files(files); });
    EXPECT_EQ(error.kind(), ErrorKind::kConfig) << text;
    EXPECT_TRUE(contains(error.what(), files[0].string())) << error.what();
    return std::string(error.what());
  };
  EXPECT_TRUE(
      contains(refused("[train]\nglobal_batch = 0\n"),
               "train.global_batch = \"0\" is not legal; legal is: integer, at least 1, at most 1024"));
  EXPECT_TRUE(contains(refused("[train]\nglobal_batch = 1025\n"), "at most 1024"));
  EXPECT_TRUE(contains(refused("[train]\nglobal_batch = 2.5\n"), "integer"));
  EXPECT_TRUE(contains(refused("[train]\nglobal_batch = 9223372036854775808\n"), "integer"));
  EXPECT_TRUE(contains(refused("[train]\nglobal_batch =\n"), "integer"));
  EXPECT_TRUE(contains(refused("[train]\nlr = 0\n"), "number, above 0, below 1"));
  EXPECT_TRUE(contains(refused("[train]\nlr = nan\n"), "number"));
  EXPECT_TRUE(contains(refused("[train]\nlr = inf\n"), "number"));
  EXPECT_TRUE(contains(refused("[train]\nlr = 1\n"), "below 1"));
  EXPECT_TRUE(contains(refused("[train]\nprecision = fp16\n"), "one of fp32, bf16"));
  EXPECT_TRUE(contains(refused("[train]\nema = maybe\n"), "true or false"));
  EXPECT_TRUE(contains(refused("[run]\nstages = teacher, stage3\n"), "out of teacher, stage1, stage2"));
  EXPECT_TRUE(contains(refused("[run]\nstages = teacher,,stage1\n"), "out of teacher"));
  EXPECT_TRUE(contains(refused("[run]\nkey = -1\n"), "integer from 0"));
  EXPECT_TRUE(contains(refused("[data]\ntaps = 3, -1\n"), "list of integer, at least 0"));
}

TEST(OptionTable, refused_value_leaves_the_variable_alone) {
  Fixture f;
  error_of([&] { f.table.parse_command_line({"--train.global_batch=0"}); });
  EXPECT_EQ(f.config.global_batch, 8);
}

TEST(OptionTable, broken_files_are_config_errors) {
  Fixture f;
  auto refused = [&](const fs::path& path) {
    std::vector<fs::path> files = {path};
    Error error = error_of([&] { f.table.parse_files(files); });
    EXPECT_TRUE(contains(error.what(), path.string())) << error.what();
    return error.kind();
  };
  EXPECT_EQ(refused("/nonexistent.ini"), ErrorKind::kConfig);
  EXPECT_EQ(refused(testing::TempDir()), ErrorKind::kConfig);
  EXPECT_EQ(refused(write_file("a", "[train]\nwhat is this\n")), ErrorKind::kConfig);
  EXPECT_EQ(refused(write_file("b", "[train]\nlr = 0.1\nlr = 0.2\n")), ErrorKind::kConfig);
}

TEST(OptionTable, option_declared_twice_is_an_internal_error) {
  Fixture f;
  EXPECT_EQ(error_of([&] { f.table.section("run").add("seed", &f.config.key, "again"); }).kind(),
            ErrorKind::kInternal);
}

TEST(OptionTable, resolved_file_reproduces_every_value) {
  Fixture f;
  f.table.parse_command_line({"--run.seed=9", "--train.lr=0.3", "--train.precision=bf16", "--train.ema=false",
                              "--data.files=x.h5,y.h5", "--data.taps=4,5", "--run.key=18446744073709551615"});
  std::string resolved = f.table.resolved_ini();
  Fixture again;
  std::vector<fs::path> files = {write_file("resolved", resolved)};

  again.table.parse_files(files);

  EXPECT_EQ(again.table.resolved_ini(), resolved);
  EXPECT_EQ(again.config.lr, 0.3);
  EXPECT_EQ(again.config.taps, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(again.config.precision, Precision::kBf16);
  EXPECT_TRUE(contains(resolved, "# samples per iteration over all ranks (integer, at least 1, at most 1024"))
      << resolved;
}

TEST(OptionTable, help_names_every_option_with_default_and_range) {
  Fixture f;
  f.table.parse_command_line({"--train.global_batch=16"});

  std::string help = f.table.help();

  EXPECT_TRUE(contains(help, "[data] Where samples come from\n")) << help;
  EXPECT_TRUE(contains(help, "--train.global_batch=8\n")) << help;
  EXPECT_TRUE(contains(help, "--run.stages=teacher, stage1\n")) << help;
  EXPECT_TRUE(contains(help, "type of the gathered weights (one of fp32, bf16)")) << help;
  EXPECT_LT(help.find("[run]"), help.find("[train]"));
}

TEST(OptionTable, experiment_hash_sees_experiment_keys_and_nothing_else) {
  Fixture a;
  Fixture b;
  uint64_t before = a.table.experiment_hash();
  EXPECT_EQ(before, b.table.experiment_hash());

  b.table.parse_command_line({"--train.ema=false", "--data.files=x.h5"});
  EXPECT_EQ(before, b.table.experiment_hash());

  b.table.parse_command_line({"--train.lr=0.2"});
  EXPECT_NE(before, b.table.experiment_hash());

  a.table.parse_command_line({"--train.lr=2e-1"});
  EXPECT_EQ(a.table.experiment_hash(), b.table.experiment_hash());
}

TEST(OptionTable, experiment_hash_does_not_depend_on_the_order_of_declaration) {
  int64_t seed = 1;
  double lr = 0.5;
  OptionTable a;
  a.section("run").add("seed", &seed, "s").experiment();
  a.section("train").add("lr", &lr, "l").experiment();
  OptionTable b;
  b.section("train").add("lr", &lr, "l").experiment();
  b.section("run").add("seed", &seed, "s").experiment();

  EXPECT_EQ(a.experiment_hash(), b.experiment_hash());
}

TEST(OptionTable, differences_list_experiment_keys_of_another_run) {
  Fixture theirs;
  theirs.table.parse_command_line({"--train.lr=0.2", "--run.seed=4", "--train.ema=false"});
  fs::path file = write_file("theirs", theirs.table.resolved_ini());
  Fixture ours;
  ours.table.parse_command_line({"--run.seed=5"});

  std::vector<OptionDifference> differences = ours.table.experiment_differences(file);

  EXPECT_EQ(differences,
            (std::vector<OptionDifference>{{"run.seed", "4", "5"}, {"train.lr", "0.2", "0.0001"}}));
  EXPECT_TRUE(theirs.table.experiment_differences(file).empty());
}

TEST(OptionTable, differences_with_an_older_file_use_defaults_and_show_unknown_keys) {
  fs::path file = write_file("old", "[run]\nseed = 1\n[method]\nnovel = 3\n");
  Fixture ours;
  EXPECT_EQ(ours.table.experiment_differences(file),
            (std::vector<OptionDifference>{{"method.novel", "3", "(no such option)"}}));
  ours.table.parse_command_line({"--train.global_batch=9"});
  EXPECT_EQ(ours.table.experiment_differences(file).size(), 2u);
}

TEST(OptionTable, value_gives_the_present_text) {
  Fixture f;
  EXPECT_EQ(f.table.value("train.lr"), "0.0001");
  EXPECT_EQ(error_of([&] { f.table.value("train.none"); }).kind(), ErrorKind::kConfig);
}

TEST(OptionTable, check_values_finds_a_variable_that_was_set_past_the_table) {
  Fixture f;
  f.table.check_values();
  f.config.global_batch = 0;
  EXPECT_EQ(error_of([&] { f.table.check_values(); }).kind(), ErrorKind::kConfig);
}

}  // namespace
}  // namespace tmd::configs
