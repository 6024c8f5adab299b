#pragma once

#include <ostream>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::golden {

/// Relative L2 distances of computed tensors from expected ones.
class Comparison {
 public:
  /// `limit`: largest relative distance that passes.
  void add(const std::string& name, const at::Tensor& expected, const at::Tensor& actual, double limit);
  void add(const std::string& name, double expected, double actual, double limit);
  /// An expected name that nothing was computed for: the case fails.
  void missing(const std::string& name) { missing_.push_back(name); }

  bool passed() const;
  void print(std::ostream& out, int ranks) const;

 private:
  struct Row {
    std::string name;
    double distance, limit;
  };
  std::vector<Row> rows_;
  std::vector<std::string> missing_;
};

}  // namespace tmd::golden
