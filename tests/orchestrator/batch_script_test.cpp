#include "orchestrator/batch_script.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::orchestrator {

TEST(BatchScriptTest, says_all_that_was_asked_for) {
  const BatchJob job{.name = "clips",
                     .nodes = 2,
                     .ranks = 18,
                     .ranks_per_node = 9,
                     .cores_per_rank = 4,
                     .node_bytes = 1'000'000'000,
                     .time = "1-00:00:00",
                     .signal_lead_s = 240,
                     .partition = "gpu",
                     .account = "project",
                     .folder = "/home/a user",
                     .program = "/opt/tmd/build/release/tmd",
                     .starter = "/opt/tmd/slurm/train.sbatch",
                     .words = {"--config", "a.ini", "--data.files=*.h5", "--run", "it's"},
                     .remarks = {"18 ranks"}};
  EXPECT_EQ(batch_script(job), R"(#!/bin/bash
# 18 ranks
#SBATCH --job-name=clips
#SBATCH --nodes=2
#SBATCH --ntasks=18
#SBATCH --ntasks-per-node=9
#SBATCH --cpus-per-task=4
#SBATCH --mem=954M
#SBATCH --time=1-00:00:00
#SBATCH --signal=USR1@240
#SBATCH --partition=gpu
#SBATCH --account=project
#SBATCH --chdir='/home/a user'
#SBATCH --output=clips-%j.txt
#SBATCH --open-mode=append
#SBATCH --requeue
export TMD=/opt/tmd/build/release/tmd
exec bash /opt/tmd/slurm/train.sbatch --config a.ini '--data.files=*.h5' --run 'it'\''s'
)");
}

TEST(BatchScriptTest, leaves_out_what_was_not_asked_for) {
  const std::string script = batch_script({});
  for (const char* option : {"cpus-per-task", "partition", "account"}) {
    EXPECT_EQ(script.find(option), std::string::npos) << option;
  }
}

TEST(TimeLimitTest, reads_the_forms_of_sbatch) {
  EXPECT_EQ(time_limit_seconds("01:02:03"), 3723);
  EXPECT_EQ(time_limit_seconds("100:00:00"), 360'000);
  EXPECT_EQ(time_limit_seconds("2-03:00:30"), 2 * 86400 + 3 * 3600 + 30);
  EXPECT_EQ(time_limit_seconds("90"), 5400);
  for (const char* text :
       {"", "0", "00:00:00", "1:60:00", "1:00:60", "01:02", "1-2", "-1", "1-", "a", "1:2:3:4"}) {
    EXPECT_THROW(time_limit_seconds(text), Error) << text;
  }
}

TEST(SignalLeadTest, grows_with_the_checkpoint_and_leaves_time_to_train) {
  EXPECT_EQ(signal_lead_seconds(0, 86400), 180);
  EXPECT_EQ(signal_lead_seconds(60'000'000'000, 86400), 420);  // 300 s of writing
  EXPECT_EQ(signal_lead_seconds(60'000'000'000, 600), 300);
}

TEST(NodeMemoryTest, counts_trainers_and_those_who_read) {
  const int64_t tensors = 8'000'000'000, rank = 500 << 20, reader = 1 << 30;
  EXPECT_EQ(node_memory(tensors, 1, 0), 10'000'000'000 + rank);
  EXPECT_EQ(node_memory(tensors, 2, 1), 2 * (10'000'000'000 + rank) + reader);
}

}  // namespace tmd::orchestrator
