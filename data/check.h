#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/data_set.h"

namespace tmd::data {

/// What reading every sample of a data set found out.
struct CheckReport {
  LatentHeader header;  ///< of the first file
  int64_t files = 0, samples = 0;
  int64_t sealed_files = 0;    ///< with /checksum
  std::vector<BadSample> bad;  ///< in order of index
  std::vector<double> mean,
      std;                 ///< [C] of the stored latents of good samples: about 0 and 1 when normalised
  uint64_t data_hash = 0;  ///< DataSet::data_hash

  bool is_good() const { return bad.empty(); }
};

/// Reads and verifies every sample, and the first file's negative text when it has one. Bad samples are
/// reported, not thrown. Throws kData for a bad negative text, kIo when that or the data hash cannot be read.
CheckReport check_data_set(DataSet& data_set);

/// The report in lines for people; names at most `max_bad` bad samples.
std::string describe(const CheckReport& report, int64_t max_bad = 20);

}  // namespace tmd::data
