// Shapes: extents, what is derived from them, limits.
#include "hybridmed/core/shape.hpp"

#include <doctest/doctest.h>

#include "core.hpp"
#include "errors.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("Shape knows its extents and its limits") {
  const Shape s{2, 3, 5};
  CHECK(s.rank() == 3);
  CHECK(s.size() == 30);
  CHECK(s.rows() == 6);
  CHECK(s.cols() == 5);
  CHECK(s[0] == 2);
  CHECK(s[-1] == 5);
  CHECK(s.str() == "(2, 3, 5)");
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.size() == 1);
  CHECK(Shape{}.rows() == 1);
  CHECK(Shape{}.cols() == 1);
  CHECK(Shape{}.str() == "()");
  CHECK(Shape{0, 4}.size() == 0);
  CHECK(Shape{0, 4}.cols() == 4);
  CHECK(Shape{1, 2, 3, 4, 5}.size() == 120);
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{6} == Shape{6, 1});
  CHECK(starts_with(error_of([] { Shape{1, 2, 3, 4, 5, 6}; }), "[hybridmed.core] Shape: "));
  CHECK(starts_with(error_of([] { Shape{2, -1}; }), "[hybridmed.core] Shape: "));
}
