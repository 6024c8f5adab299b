#include "configs/option_codec.h"

#include <stdexcept>

#include <gtest/gtest.h>

namespace tmd::configs {
namespace {

template <class T>
void expect_round_trip(T value) {
  EXPECT_EQ(OptionCodec<T>::parse(OptionCodec<T>::print(value)), value);
}

TEST(OptionCodec, printed_values_parse_to_themselves) {
  expect_round_trip<int64_t>(INT64_MIN);
  expect_round_trip<int>(-7);
  expect_round_trip<uint64_t>(UINT64_MAX);
  expect_round_trip<double>(0.1);
  expect_round_trip<double>(1.0 / 3.0);
  expect_round_trip<double>(5e-324);
  expect_round_trip<bool>(false);
  expect_round_trip<std::string>("a b=c");
  expect_round_trip<std::vector<double>>({0.5, 1e-9});
  expect_round_trip<std::vector<std::string>>({});
}

TEST(OptionCodec, texts_of_another_type_are_refused) {
  EXPECT_THROW(OptionCodec<int64_t>::parse("1.5"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<int64_t>::parse("0x10"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<int64_t>::parse("+-1"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<int>::parse("3000000000"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<uint64_t>::parse("-1"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<double>::parse("1e999"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<double>::parse("1,5"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<bool>::parse(""), std::invalid_argument);
  EXPECT_THROW(OptionCodec<std::string>::parse("a # b"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<std::vector<int64_t>>::parse("1,,2"), std::invalid_argument);
  EXPECT_THROW(OptionCodec<std::vector<int64_t>>::parse("1,"), std::invalid_argument);
}

TEST(OptionCodec, equal_values_have_equal_texts) {
  EXPECT_EQ(OptionCodec<double>::print(OptionCodec<double>::parse("+1.0e-4")), "0.0001");
  EXPECT_EQ(OptionCodec<std::vector<int64_t>>::print({1, 2}), "1, 2");
}

}  // namespace
}  // namespace tmd::configs
