#include "orchestrator/tensor_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "base/error.h"

namespace tmd::orchestrator {
namespace {

TEST(TensorFile, tensors_of_every_type_come_back_as_they_went) {
  const data::TemporaryFolder folder;
  const auto path = folder.path() / "t.safetensors";
  NamedTensors tensors = {{"scalar", at::tensor(3.5)}, {"empty", at::empty({0, 4}, at::kFloat)}};
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt})
    tensors[at::toString(type)] = at::arange(6).view({2, 3}).transpose(0, 1).to(type);
  write_tensors(path, tensors, {{"key", "value"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("key"), "value");
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor read = read_tensor(file, name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(read.equal(tensor)) << name;
  }
}

TEST(TensorFile, what_is_missing_or_misshapen_is_named) {
  const data::TemporaryFolder folder;
  const auto path = folder.path() / "t.safetensors";
  write_tensors(path, {{"text", at::zeros({2, 3})}});
  const SafetensorsFile file(path);
  try {
    read_tensor(file, "latents");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(e.what()).find("no tensor \"latents\"; it has: text"), std::string::npos)
        << e.what();
  }
  try {
    read_tensor(file, "text", 3, "[B, S, E]");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("\"text\" is [2, 3], not [B, S, E]"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace tmd::orchestrator
