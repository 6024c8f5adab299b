#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tmd::sharding {

/// Which elements of a named tensor a rank holds, in memory and on disk.
///
/// A tensor of `full_shape` is first cut along `split_dim` (tensor parallelism): this rank's block has the
/// rows `split_begin .. split_begin + split_count` of that dimension; `split_dim` = -1 means the whole tensor
/// is the block. The block, row-major, is then cut as a flat list of elements: `flat_begin .. flat_end` (end
/// excluded).
struct Slice {
  std::string name;
  std::vector<int64_t> full_shape;
  int split_dim = -1;
  int64_t split_begin = 0;
  int64_t split_count = 0;  ///< 0 when split_dim is -1
  int64_t flat_begin = 0;
  int64_t flat_end = 0;

  int64_t elements() const { return flat_end - flat_begin; }
  /// Elements of the whole tensor that lie one behind the other, both in the block and in the tensor: the
  /// longest such run. A slice of the block consists of pieces of such runs.
  int64_t run_elements() const;
  /// Place in the whole tensor, row-major, of element `flat` of the block.
  int64_t place_in_tensor(int64_t flat) const;
  /// The first element of the block whose place in the whole tensor is `place` or behind it; the block's
  /// number of elements when there is none.
  int64_t first_from(int64_t place) const;
  bool operator==(const Slice&) const = default;

 private:
  int64_t elements_inside() const;  // of one step of the split dimension
};

/// Calls `visit(from_flat, to_flat, elements)` for every run of elements that two slices of one tensor share,
/// ascending: positions in the blocks of the two, which may be cut in different ways.
void for_each_shared_run(const Slice& from, const Slice& to,
                         const std::function<void(int64_t, int64_t, int64_t)>& visit);

}  // namespace tmd::sharding
