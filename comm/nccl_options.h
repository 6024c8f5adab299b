#pragma once

namespace tmd::comm {

struct NcclOptions {
  /// Groups use the buffers and connections of the one that they were split from. They cost hundreds of MB
  /// each otherwise; the price is that NCCL lets only one operation of the family run at a time.
  bool shares_resources = true;
  int min_ctas = 0;  ///< thread blocks of an operation at least; 0: NCCL's choice
  int max_ctas = 0;  ///< and at most
};

}  // namespace tmd::comm
