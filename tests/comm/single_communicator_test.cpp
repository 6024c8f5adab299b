#include "comm/single_communicator.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "comm/self_check.h"

namespace tmd::comm {
namespace {

ErrorKind kind_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::kUsage;
}

TEST(SingleCommunicator, self_check_finds_nothing) {
  SingleCommunicator comm("alone");
  for (const std::string& failure : self_check(comm)) ADD_FAILURE() << failure;
}

TEST(SingleCommunicator, message_is_taken_when_it_is_sent) {
  SingleCommunicator comm("alone");
  const at::Tensor sent = at::ones({3});
  comm.send(sent, 0, 4).wait();
  sent.zero_();
  const at::Tensor received = at::zeros({3});
  comm.recv(received, 0, 4).wait();
  EXPECT_TRUE(received.equal(at::ones({3})));
}

TEST(SingleCommunicator, wait_for_a_message_that_nobody_sent_is_refused) {
  SingleCommunicator comm("alone");
  Work receipt = comm.recv(at::zeros({3}), 0, 4);
  EXPECT_FALSE(receipt.is_done());
  EXPECT_EQ(kind_of([&] { receipt.wait(); }), ErrorKind::kInternal);
}

TEST(SingleCommunicator, message_of_another_size_is_refused) {
  SingleCommunicator comm("alone");
  comm.send(at::ones({3}), 0, 4).wait();
  EXPECT_EQ(kind_of([&] { comm.recv(at::zeros({2}), 0, 4).wait(); }), ErrorKind::kInternal);
}

TEST(SingleCommunicator, operations_are_entered_in_the_journal) {
  Journal journal;
  SingleCommunicator comm("alone", &journal);
  comm.all_reduce(at::ones({3}), ReduceOp::kSum).wait();
  comm.send(at::ones({2}), 0, 4).wait();
  const std::vector<JournalEntry> entries = journal.content().entries;
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].kind, OperationKind::kAllReduce);
  EXPECT_EQ(entries[0].communicator, "alone");
  EXPECT_EQ(entries[1].elements, 2);
  EXPECT_EQ(entries[1].tag, 4);
  EXPECT_GT(entries[1].finished_s, 0);
}

}  // namespace
}  // namespace tmd::comm
