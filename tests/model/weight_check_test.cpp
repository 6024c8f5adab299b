#include "model/weight_check.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "safetensors_example.h"

namespace tmd::model {
namespace {

std::string refusal(const std::vector<NamedShape>& wanted, const std::vector<NamedShape>& found) {
  try {
    check_tensors("w.safetensors", "decoder", wanted, found, "take another file");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    EXPECT_EQ(e.hint(), "take another file");
    return e.what();
  }
  return "";
}

TEST(CheckTensors, same_names_and_shapes_in_any_order_pass) {
  EXPECT_EQ(refusal({{"a", {2, 3}}, {"b", {}}}, {{"b", {}}, {"a", {2, 3}}}), "");
}

TEST(CheckTensors, missing_misshaped_and_unexpected_tensors_are_named_at_once) {
  EXPECT_EQ(refusal({{"a", {2, 3}}, {"b", {4}}, {"c", {1}}}, {{"a", {3, 2}}, {"c", {1}}, {"d", {5}}}),
            "w.safetensors does not fit the decoder: a is [3, 2], not [2, 3]; b is missing; d is not in the "
            "model");
}

TEST(CheckTensors, twenty_problems_are_listed_and_the_rest_counted) {
  std::vector<NamedShape> wanted;
  for (int i = 0; i < 23; ++i) wanted.push_back({"t" + std::to_string(i) + "_", {1}});

  const std::string text = refusal(wanted, {});

  EXPECT_NE(text.find("t19_ is missing; and 3 more"), std::string::npos) << text;
  EXPECT_EQ(text.find("t20_"), std::string::npos) << text;
  wanted.resize(20);
  EXPECT_EQ(refusal(wanted, {}).find("more"), std::string::npos);
}

// One name per element type; values that all four types hold exactly.
TEST(ReadUnit, four_element_types_are_converted_and_renamed) {
  const at::Tensor values = at::arange(6, at::kDouble).view({2, 3}) - 2.5;
  const test::SafetensorsExample example({{"file.a", values},
                                          {"file.b", values.to(at::kFloat)},
                                          {"file.c", values.to(at::kHalf)},
                                          {"file.d", values.to(at::kBFloat16)}});
  const sharding::UnitSpec unit{"u",
                                {{"b", {2, 3}, {}}, {"d", {2, 3}, {}}, {"a", {2, 3}, {}}, {"c", {2, 3}, {}}}};

  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const auto tensors =
        read_unit(example.open(), unit, type, [](const std::string& name) { return "file." + name; });
    ASSERT_EQ(tensors.size(), 4u);
    for (const at::Tensor& tensor : tensors) {
      EXPECT_EQ(tensor.scalar_type(), type);
      EXPECT_TRUE(tensor.equal(values.to(type)));
    }
  }
}

TEST(ReadUnit, integers_and_absent_tensors_are_refused) {
  const test::SafetensorsExample example({{"a", at::arange(6)}});
  const auto same = [](const std::string& name) { return name; };
  const auto kind_of = [&](const std::string& name) {
    try {
      read_unit(example.open(), {"u", {{name, {6}, {}}}}, at::kFloat, same);
    } catch (const Error& e) {
      return std::pair(e.kind(), std::string(e.what()));
    }
    return std::pair(ErrorKind::kInternal, std::string("accepted"));
  };
  const auto [integers, integers_text] = kind_of("a");
  EXPECT_EQ(integers, ErrorKind::kData);
  EXPECT_NE(integers_text.find("tensor a has element type I64"), std::string::npos) << integers_text;
  const auto [absent, absent_text] = kind_of("b");
  EXPECT_EQ(absent, ErrorKind::kData);
  EXPECT_NE(absent_text.find("no tensor \"b\""), std::string::npos) << absent_text;
}

}  // namespace
}  // namespace tmd::model
