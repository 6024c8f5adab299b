#include "sharding/slice.h"

#include <algorithm>

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
  const int64_t inner = elements_inside();
  const int64_t run = split_count * inner;
  return flat / run * full_shape[split_dim] * inner + split_begin * inner + flat % run;
}

int64_t Slice::first_from(int64_t place) const {
  if (split_dim < 0) return place;
  const int64_t inner = elements_inside(), run = split_count * inner, stride = full_shape[split_dim] * inner;
  return place / stride * run + std::clamp<int64_t>(place % stride - split_begin * inner, 0, run);
}

int64_t Slice::elements_inside() const {
  int64_t inner = 1;
  for (size_t dim = split_dim + 1; dim < full_shape.size(); ++dim) inner *= full_shape[dim];
  return inner;
}

void for_each_shared_run(const Slice& from, const Slice& to,
                         const std::function<void(int64_t, int64_t, int64_t)>& visit) {
  if (from.elements() == 0 || to.elements() == 0) return;
  const int64_t from_run = from.run_elements(), to_run = to.run_elements();
  const auto end_of_run = [](int64_t flat, int64_t run, int64_t end) {
    return std::min((flat / run + 1) * run, end);
  };
  for (int64_t at = from.flat_begin; at < from.flat_end;) {
    const int64_t end = end_of_run(at, from_run, from.flat_end);
    const int64_t place = from.place_in_tensor(at), place_end = place + end - at;
    for (int64_t other = std::max(to.flat_begin, to.first_from(place)); other < to.flat_end;) {
      const int64_t begin = to.place_in_tensor(other);
      if (begin >= place_end) break;
      const int64_t count = std::min(end_of_run(other, to_run, to.flat_end) - other, place_end - begin);
      visit(at + begin - place, other, count);
      other += count;
    }
    at = end;
  }
}

}  // namespace tmd::sharding
