// Bad pictures, and what the error says of the study they belong to.
#include "hybridmed/data/dataset.hpp"
#include "readers.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

const fs::path fixtures = HYBRIDMED_FIXTURES;
/// The place inside a file that is not text.
const std::string at_byte_or_row = "(byte|offset|row|line) [0-9]+";

void read_picture(const fs::path& file) { data::read_image(file); }
std::string fixture(const char* name) { return io::read_text(fixtures / name); }
std::string flipped(std::string s, std::size_t at) {
  s[at] = static_cast<char>(s[at] ^ 0x55);
  return s;
}
/// The first `from` replaced.
std::string replaced(std::string s, const std::string& from, const std::string& to) {
  const auto at = s.find(from);
  REQUIRE(at != s.npos);
  return s.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("images: truncated, corrupt, missing, or not what their name says") {
  const std::string png = fixture("grey8.png"), rgb = fixture("rgb_interlaced.png"),
                    jpeg = fixture("rgb420.jpg"), progressive = fixture("progressive.jpg");
  const std::string ends = "ends|[Pp]remature|cut short|truncated";
  check({
      with_bytes("PNG cut inside its header", "a.png", cut(png, 20), read_picture,
                 {at_byte_or_row, ends}),
      with_bytes("PNG cut in the middle", "a.png", cut(png, png.size() / 2), read_picture,
                 {at_byte_or_row, ends}),
      with_bytes("interlaced PNG cut in the middle", "a.png", cut(rgb, rgb.size() / 2),
                 read_picture, {at_byte_or_row, ends}),
      with_bytes("PNG without the end of its pixels", "a.png", cut(png, png.size() - 13),
                 read_picture, {at_byte_or_row, ends}),
      with_bytes("JPEG cut inside its header", "a.jpg", cut(jpeg, 30), read_picture,
                 {at_byte_or_row, ends}),
      with_bytes("JPEG cut in the middle", "a.jpg", cut(jpeg, jpeg.size() / 2), read_picture,
                 {at_byte_or_row, ends}),
      with_bytes("progressive JPEG cut in the middle", "a.jpg",
                 cut(progressive, progressive.size() / 2), read_picture, {at_byte_or_row, ends}),
      with_bytes("JPEG without its end", "a.jpg", cut(jpeg, jpeg.size() - 2), read_picture,
                 {at_byte_or_row, ends}),
      with_bytes("PNG with a damaged pixel byte", "a.png", flipped(png, png.size() / 2),
                 read_picture, {at_byte_or_row, "CRC|checksum|inflate|distance|code|data check"}),
      with_bytes("PNG whose header is damaged", "a.png", flipped(png, 17), read_picture,
                 {at_byte_or_row, "IHDR"}),
      with_bytes("PNG of 0 x 5 pixels", "a.png",
                 png.substr(0, 8) +
                     std::string("\0\0\0\rIHDR\0\0\0\0\0\0\0\5\b\0\0\0\0\x4e\x2d\xb2\x7d", 25) +
                     png.substr(33),
                 read_picture, {"IHDR|width|0 x 5"}),
      with_bytes("JPEG that claims 65535 x 65535 pixels", "a.jpg",
                 [&] {
                   std::string s = jpeg;
                   const auto frame = s.find("\xFF\xC0");
                   REQUIRE(frame != s.npos);
                   return s.replace(frame + 5, 4, "\xFF\xFF\xFF\xFF");
                 }(),
                 read_picture, {"65535 x 65535|65500", "limit|[Mm]aximum"}),
      with_bytes("JPEG without a table of its header", "a.jpg",
                 replaced(jpeg, "\xFF\xDB", "\xFF\xFE"), read_picture,
                 {at_byte_or_row, "[Qq]uantization table"}),
      with_bytes("a marker in the middle of JPEG pixels", "a.jpg",
                 jpeg.substr(0, jpeg.size() - 60) + "\xFF\xD9" + jpeg.substr(jpeg.size() - 58),
                 read_picture, {at_byte_or_row, "[Cc]orrupt|marker|[Pp]remature"}),
      with_bytes("an empty file", "a.png", "", read_picture, {"empty"}),
      with_bytes("text under the name of a PNG", "a.png", "study_id,findings\n1,Clear.\n",
                 read_picture, {"first bytes", "neither PNG nor JPEG"}),
      with_bytes("a GIF under the name of a JPEG", "a.jpg", "GIF89a;", read_picture,
                 {"a GIF file", "save it as PNG"}),
      with_bytes("a cut JPEG under the name of a PNG: what it is, not what it is called", "a.png",
                 cut(jpeg, jpeg.size() / 2), read_picture,
                 {at_byte_or_row, "JPEG: .*(" + ends + ")"}),
      with_bytes("a cut PNG under the name of a JPEG", "a.jpg", cut(png, png.size() / 2),
                 read_picture, {at_byte_or_row, "PNG: .*(" + ends + ")"}),
      {"a missing file",
       [](const fs::path& folder) { return folder / "a.png"; },
       read_picture,
       {"No such file"}},
      {"a folder under the name of a picture",
       [](const fs::path& folder) {
         fs::create_directories(folder / "a.png");
         return folder / "a.png";
       },
       read_picture,
       {"is a folder"}},
  });
}

TEST_CASE("a whole picture under the wrong name loses nothing") {
  const ScratchFolder f;
  for (const char* name : {"grey8.png", "rgb420.jpg"}) {
    write_bytes(f.path / "a.png", fixture(name));
    write_bytes(f.path / "a.jpg", fixture(name));
    CHECK(data::read_image(f.path / "a.png").pixels == data::read_image(f.path / "a.jpg").pixels);
    CHECK(data::read_image(f.path / "a.png").pixels == data::read_image(fixtures / name).pixels);
  }
}

namespace {

void three_pictures(const fs::path& folder) {
  write_bytes(folder / "studies.csv", three_studies);
  for (const char* n : {"one.png", "two.png", "three.png"})
    write_bytes(folder / "images" / n, fixture("grey8.png"));
}
data::Dataset three(const data::DataFolder& folder) {
  data::DatasetOptions o;
  o.transform.image_size = 14;
  o.transform.resize = 16;
  return {folder, folder.select({}), data::WordPiece({"[PAD]", "[BOS]", "[EOS]", "[UNK]"}), o};
}
/// The batch that holds the picture's study; the other studies are still there afterwards.
void batch_of_three(const fs::path& picture) {
  const data::DataFolder folder(picture.parent_path().parent_path());
  const data::Dataset d = three(folder);
  const std::string e = error_of([&] { d.batch({0, 1, 2}, nullptr); });
  CHECK(d.batch({0, 2}, nullptr).studies.size() == 2);
  CHECK(error_of([&] { d.batch({1}, nullptr); }) == e);
  d.batch({0, 1, 2}, nullptr);
}

}  // namespace

TEST_CASE("a study's picture: the error names the picture, the study and its line in the table") {
  const auto pictures = [](std::function<void(const fs::path&)> damage) {
    return [=](const fs::path& folder) {
      three_pictures(folder);
      damage(folder / "images" / "two.png");
      return folder / "images" / "two.png";
    };
  };
  check({
      {"missing",
       pictures([](const fs::path& p) { fs::remove(p); }),
       batch_of_three,
       {"\\bs2\\b", "line 3", "No such file"}},
      {"empty",
       pictures([](const fs::path& p) { write_bytes(p, ""); }),
       batch_of_three,
       {"\\bs2\\b", "line 3", "empty"}},
      {"cut",
       pictures([](const fs::path& p) { fs::resize_file(p, 100); }),
       batch_of_three,
       {"\\bs2\\b", "line 3", "ends|[Pp]remature"}},
      {"no picture",
       pictures([](const fs::path& p) { write_bytes(p, "DICM"); }),
       batch_of_three,
       {"\\bs2\\b", "line 3", "neither PNG nor JPEG"}},
  });
}
