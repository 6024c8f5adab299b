#include "sharding/slice.h"

namespace tmd::sharding {

int64_t Slice::run_elements() const {
  int64_t run = 1;
  for (int dim = static_cast<int>(full_shape.size()) - 1; dim >= 0; --dim) {
    if (dim == split_dim) return run * split_count;
    run *= full_shape[dim];
  }
  return run;
}

int64_t Slice::place_in_tensor(int64_t flat) const {
  if (split_dim < 0) return flat;
  int64_t inner = 1;
  for (size_t dim = split_dim + 1; dim < full_shape.size(); ++dim) inner *= full_shape[dim];
  const int64_t run = split_count * inner;
  return flat / run * full_shape[split_dim] * inner + split_begin * inner + flat % run;
}

}  // namespace tmd::sharding
