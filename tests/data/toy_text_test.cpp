#include "data/toy_text.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::data {
namespace {

TEST(ToyText, word_vectors_are_fixed_and_different) {
  const at::Tensor disc = toy_word_vector("disc", 4096), cross = toy_word_vector("cross", 4096);
  EXPECT_TRUE(disc.equal(toy_word_vector("disc", 4096)));
  EXPECT_TRUE(disc.slice(0, 0, 32).equal(toy_word_vector("disc", 32)));
  EXPECT_NEAR(disc.mean().item<float>(), 0, 0.07);
  EXPECT_NEAR(disc.std().item<float>(), 1, 0.05);
  EXPECT_NEAR((disc * cross).mean().item<float>(), 0, 0.07) << "unrelated words are nearly orthogonal";
}

TEST(ToyText, embed_one_row_per_word_then_zeros) {
  const std::vector<std::string> words = {"disc", "red"};
  const TextEmbedding embedding = embed_toy_words(words, 4, 8);
  EXPECT_EQ(embedding.text_length, 2);
  EXPECT_TRUE(embedding.text[1].equal(toy_word_vector("red", 8)));
  EXPECT_TRUE(embedding.text.slice(0, 2).eq(0).all().item<bool>());
  expect_error(ErrorKind::kConfig, "\"disc red\" has 2 words, the text only 1 rows",
               [&] { embed_toy_words(words, 1, 8); });
}

}  // namespace
}  // namespace tmd::data
