#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::test {

/// The tmd::Error that `function` throws; a failure of the test when it throws none.
template <class Function>
Error error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorKind::kInternal, "");
}

/// Expects bad input data whose message holds every one of `parts`, is short, and comes with a hint.
inline void expect_bad_data(const Error& error, const std::vector<std::string>& parts) {
  const std::string text = error.what();
  EXPECT_EQ(name(error.kind()), name(ErrorKind::kData)) << text;
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_LT(text.size(), 3000u) << text;
  EXPECT_FALSE(error.hint().empty()) << text;
}

}  // namespace tmd::test
