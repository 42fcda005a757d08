// boxes.csv: what is no box of a picture is refused with its line.
#include <doctest/doctest.h>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/task/pointing.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

const std::string header = "image,label,text,x,y,w,h\n";

std::string refusal(const std::string& rows) {
  const ScratchFolder f;
  f.write("boxes.csv", header + rows);
  return error_of([&] { task::read_boxes(f.path / "boxes.csv"); });
}

}  // namespace

TEST_CASE("boxes are fractions of their picture") {
  const ScratchFolder f;
  f.write("boxes.csv",
          header + "a.png,nodule,a nodule.,0.25,0.5,0.125,0.5\nb.png,nodule,x,0,0,1,1\n");
  const auto rows = task::read_boxes(f.path / "boxes.csv");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].image == "a.png");
  CHECK(rows[0].text == "a nodule.");
  CHECK(rows[0].box.x == 0.25);
  CHECK(rows[0].box.height == 0.5);
  CHECK(rows[1].line == 3);
}

TEST_CASE("a box that is none is refused with file and line") {
  for (const char* numbers :
       {"12,8,4,4", "0.5,0.5,0,0.1", "0.5,0.5,0.1,0", "-0.1,0,0.2,0.2", "0.5,0.5,-0.1,0.1",
        "0.9,0.1,0.2,0.1", "0.1,0.9,0.1,0.2", "1e18,0,1,1", "0x1p-1,0,0.1,0.1", "nan,0,0.1,0.1",
        "inf,0,0.1,0.1", "0.5,,0.1,0.1", "0.5,abc,0.1,0.1", " 0.5,0.5,0.1,0.1"}) {
    const std::string e =
        refusal("a.png,nodule,x,0.1,0.1,0.1,0.1\nb.png,nodule,x," + std::string(numbers) + "\n");
    CHECK_MESSAGE(holds(e, "boxes.csv, line 3: expected a "), numbers, " gave: ", e);
  }
}

TEST_CASE("a box twice, an empty cell, a missing column") {
  const std::string row = "a.png,nodule,x,0.1,0.1,0.1,0.1\n";
  CHECK(holds(refusal(row + row), "line 3: the same box as in line 2"));
  CHECK(holds(refusal("a.png, ,x,0.1,0.1,0.1,0.1\n"), "line 2: the column 'label' is empty"));
  CHECK(holds(refusal("a.png,nodule,,0.1,0.1,0.1,0.1\n"), "the column 'text' is empty"));
  const ScratchFolder f;
  f.write("boxes.csv", "image,label,x,y,w,h\n");
  CHECK(holds(error_of([&] { task::read_boxes(f.path / "boxes.csv"); }), "'text' is missing"));
}
