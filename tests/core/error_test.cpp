// Errors: what their one sentence holds.
#include "hybridmed/core/error.hpp"

#include <doctest/doctest.h>

#include <string>

#include "errors.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;

TEST_CASE("an Error is one sentence with area and hint") {
  const Error e("io", "read", "no such file", "check the path");
  CHECK(std::string(e.what()) == "[hybridmed.io] read: no such file; hint: check the path");
  CHECK(e.area() == "io");
  CHECK(error_of([] { fail("nn", "f", "m"); }) == "[hybridmed.nn] f: m");
}
