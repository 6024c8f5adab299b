#include "workers/roles.h"

#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::workers {
namespace {

TEST(RoleLayout, workers_areTheLastRanksAndShareTheTrainers) {
  const RoleLayout layout = lay_out_roles(7, 2);

  EXPECT_EQ(layout.trainers, 5);
  EXPECT_EQ(layout.role_of(4), Role::kTrainer);
  EXPECT_EQ(layout.role_of(5), Role::kDataWorker);
  EXPECT_EQ(layout.trainers_of(5), (std::vector<int>{0, 2, 4}));
  EXPECT_EQ(layout.trainers_of(6), (std::vector<int>{1, 3}));
  for (int trainer = 0; trainer < 5; ++trainer) EXPECT_EQ(layout.worker_of(trainer), 5 + trainer % 2);
}

TEST(RoleLayout, withoutWorkers_allRanksTrain) {
  const RoleLayout layout = lay_out_roles(3, 0);
  EXPECT_EQ(layout.trainers, 3);
  EXPECT_EQ(layout.role_of(2), Role::kTrainer);
  EXPECT_THROW(layout.worker_of(0), Error);
}

TEST(RoleLayout, worldsThatDoNotFit_areRefused) {
  data::expect_error(ErrorKind::kConfig, "1 ranks with mesh.data_workers = 1 leave nobody to train",
                     [] { lay_out_roles(1, 1); });
  data::expect_error(ErrorKind::kConfig, "1 trainers for 2 data workers", [] { lay_out_roles(3, 2); });
  data::expect_error(ErrorKind::kConfig, "mesh.data_workers is -1", [] { lay_out_roles(3, -1); });
  EXPECT_NO_THROW(lay_out_roles(4, 2));
}

}  // namespace
}  // namespace tmd::workers
