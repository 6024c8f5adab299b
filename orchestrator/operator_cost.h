#pragma once

#include <cstdint>
#include <string>

#include <ATen/record_function.h>

namespace tmd::orchestrator {

/// Work of operators, as their arguments tell it; the same on the host and on the meta device.
struct OperatorCost {
  double product_flops = 0;    ///< matrix products and convolutions, 1 multiply-add = 2
  double attention_flops = 0;  ///< scores and weighted sums; the backward pass counts 2.5 times the forward
  double moved_bytes = 0;      ///< that element-wise operators, norms and copies read and write
  int64_t operators = 0;

  OperatorCost& operator+=(const OperatorCost& other);
  OperatorCost scaled(double factor) const;
};

/// Adds what this thread's operators cost to `cost`, as long as the object lives; one at a time.
class CountOperators {
 public:
  explicit CountOperators(OperatorCost& cost);
  CountOperators(const CountOperators&) = delete;
  CountOperators& operator=(const CountOperators&) = delete;
  ~CountOperators();

 private:
  at::CallbackHandle handle_;
};

}  // namespace tmd::orchestrator
