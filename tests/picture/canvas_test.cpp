// Text on a canvas: its width, and how it is wrapped.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "hybridmed/picture/canvas.hpp"

using namespace hybridmed::picture;

namespace {

std::string joined(const std::vector<std::string>& lines, const std::string& between) {
  std::string out;
  for (std::size_t i = 0; i < lines.size(); ++i) out += (i > 0 ? between : "") + lines[i];
  return out;
}
std::string without_blanks(std::string s) {
  s.erase(std::remove(s.begin(), s.end(), ' '), s.end());
  return s;
}
/// Does it start within a letter of UTF-8?
bool starts_within(const std::string& s) {
  return !s.empty() && (static_cast<unsigned char>(s[0]) & 0xC0) == 0x80;
}

}  // namespace

TEST_CASE("text has a width that grows with the text and with the size") {
  Canvas canvas(200, 100);
  CHECK(canvas.text_width("", 12) == 0);
  CHECK(canvas.text_width("lung", 12) > 0);
  CHECK(canvas.text_width("lung lung", 12) > canvas.text_width("lung", 12));
  CHECK(canvas.text_width("lung", 24) > canvas.text_width("lung", 12));
}

TEST_CASE("wrapped text: no line too wide, words joined with blanks give back the text") {
  Canvas canvas(200, 100);
  const std::string text =
      "the heart is of normal size there is no effusion on the left or on the right side";
  for (const double size : {9., 12., 20.}) {
    const double word = canvas.text_width("effusion", size);  // the longest
    for (const double factor : {1.01, 1.7, 3., 5.5, 100.}) {
      CAPTURE(size);
      CAPTURE(factor);
      const auto lines = canvas.wrapped(text, size, factor * word);
      CHECK(joined(lines, " ") == text);
      for (const auto& line : lines) CHECK(canvas.text_width(line, size) <= factor * word);
    }
  }
  using Lines = std::vector<std::string>;
  const double whole = canvas.text_width(text, 12);
  CHECK(canvas.wrapped(text, 12, whole + 1) == Lines{text});
  CHECK(canvas.wrapped(text, 12, 0.6 * whole).size() == 2);
  CHECK(canvas.wrapped("normal size", 12, canvas.text_width("normal", 12) + 1) ==
        Lines{"normal", "size"});
}

TEST_CASE("wrapped text: words longer than a line are broken, letters are not, nothing is lost") {
  Canvas canvas(200, 100);
  const std::string latin = "Donaudampfschifffahrtselektrizit\xC3\xA4tenhauptbetriebswerk";
  std::string letters;  // of two, three and four bytes
  for (int i = 0; i < 30; ++i) letters += "\xC3\xA4\xE2\x82\xAC\xF0\x9D\x84\x9E";
  for (const std::string& text :
       {latin, letters, "a " + latin + " b", letters + " x " + latin, std::string(200, 'W')}) {
    for (const double factor : {3., 4.5, 8.}) {
      CAPTURE(text);
      CAPTURE(factor);
      const double limit = factor * canvas.text_width("WW", 12);  // wider than any letter here
      const auto lines = canvas.wrapped(text, 12, limit);
      CHECK(lines.size() > 1);
      CHECK(without_blanks(joined(lines, "")) == without_blanks(text));
      for (const auto& line : lines) {
        CHECK(line != "");
        CHECK(canvas.text_width(line, 12) <= limit);
        CHECK_FALSE(starts_within(line));
      }
    }
  }
}
