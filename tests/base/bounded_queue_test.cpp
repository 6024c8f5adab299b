#include "base/bounded_queue.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace tmd {
namespace {

using namespace std::chrono_literals;

std::vector<int> drain(BoundedQueue<int>& queue) {
  std::vector<int> items;
  while (const auto item = queue.pop()) items.push_back(*item);
  return items;
}

TEST(BoundedQueue, pop_givesItemsInOrder) {
  BoundedQueue<int> queue(2);
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) EXPECT_TRUE(queue.push(i));
    queue.close();
  });

  const std::vector<int> items = drain(queue);
  producer.join();

  ASSERT_EQ(items.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(items[i], i);
}

TEST(BoundedQueue, push_blocksWhileFull) {
  BoundedQueue<int> queue(2);
  std::atomic<int> pushed = 0;
  std::thread producer([&] {
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(queue.push(i));
      ++pushed;
    }
  });

  while (pushed < 2) std::this_thread::yield();
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(pushed, 2);
  EXPECT_EQ(queue.pop(), 0);
  producer.join();
  EXPECT_EQ(pushed, 3);
}

TEST(BoundedQueue, push_isRefusedAfterClose) {
  BoundedQueue<int> queue(1);
  EXPECT_TRUE(queue.push(7));
  queue.close();

  EXPECT_FALSE(queue.push(8));
  EXPECT_EQ(drain(queue), std::vector<int>{7});
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(BoundedQueue, close_wakesBlockedProducer) {
  BoundedQueue<int> queue(1);
  EXPECT_TRUE(queue.push(0));
  bool accepted = true;
  std::thread producer([&] { accepted = queue.push(1); });

  std::this_thread::sleep_for(20ms);
  queue.close();
  producer.join();

  EXPECT_FALSE(accepted);
}

TEST(BoundedQueue, close_wakesBlockedConsumers) {
  BoundedQueue<int> queue(1);
  std::atomic<int> ended = 0;
  std::vector<std::thread> consumers;
  for (int i = 0; i < 2; ++i) consumers.emplace_back([&] { ended += !queue.pop().has_value(); });

  std::this_thread::sleep_for(20ms);
  queue.close();
  for (std::thread& consumer : consumers) consumer.join();

  EXPECT_EQ(ended, 2);
}

TEST(BoundedQueue, fail_isThrownAfterTheItems) {
  BoundedQueue<int> queue(3);
  EXPECT_TRUE(queue.push(1));
  EXPECT_TRUE(queue.push(2));
  queue.fail(std::make_exception_ptr(std::out_of_range("broken")));
  queue.close();  // the first end counts

  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_THROW((void)queue.pop(), std::out_of_range);
  EXPECT_THROW((void)queue.pop(), std::out_of_range);
  EXPECT_FALSE(queue.push(3));
}

TEST(BoundedQueue, queue_takesItemsThatOnlyMove) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.push(std::make_unique<int>(5)));
  EXPECT_EQ(**queue.pop(), 5);
}

// Throws when it is moved `moves_left` times.
struct Fragile {
  explicit Fragile(int value_, int* moves_left_) : value(value_), moves_left(moves_left_) {}
  Fragile(Fragile&& other) : value(other.value), moves_left(other.moves_left) {
    if (--*moves_left == 0) throw std::runtime_error("moved once too often");
  }
  int value;
  int* moves_left;
};

TEST(BoundedQueue, moveThatThrows_leavesQueueUsable) {
  BoundedQueue<Fragile> queue(2);
  int moves_left = 100;
  EXPECT_TRUE(queue.push(Fragile(1, &moves_left)));
  moves_left = 1;
  EXPECT_THROW((void)queue.push(Fragile(2, &moves_left)), std::runtime_error);
  moves_left = 1;
  EXPECT_THROW((void)queue.pop(), std::runtime_error);

  moves_left = 100;
  EXPECT_TRUE(queue.push(Fragile(3, &moves_left)));
  EXPECT_EQ(queue.pop()->value, 1);
  EXPECT_EQ(queue.pop()->value, 3);
}

TEST(BoundedQueue, capacityZero_isRefused) { EXPECT_THROW(BoundedQueue<int>(0), Error); }

}  // namespace
}  // namespace tmd
