#pragma once
// Tables given as text, for tests of their reader.
#include <string>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/csv.hpp"

namespace hybridmed::test {

using Row = std::vector<std::string>;

/// What the reader says of these bytes as reports.csv; empty where it takes them.
inline std::string parse_error(const std::string& bytes, const data::TableFormat& format = {}) {
  return error_of([&] { data::parse_csv(bytes, "reports.csv", format); });
}

}  // namespace hybridmed::test
