// Bad files and what their readers say: images, tables, vocabularies, safetensors, weights,
// configurations.
#include "bad_input.hpp"
#include "hybridmed/data/dataset.hpp"
#include "hybridmed/nn/layers.hpp"
#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/run_config.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
namespace fs = std::filesystem;

namespace {

using B = Reference;
const fs::path fixtures = HYBRIDMED_FIXTURES;
/// The place inside a file that is not text.
const std::string at_byte_or_row = "(byte|offset|row|line) [0-9]+";

BadInput with_bytes(const std::string& name, const std::string& file, const std::string& bytes,
                    std::function<void(const fs::path&)> use, std::vector<std::string> patterns) {
  return {name,
          [=](const fs::path& folder) {
            write_bytes(folder / file, bytes);
            return folder / file;
          },
          std::move(use), std::move(patterns)};
}

}  // namespace

// ---------------------------------------------------------------- images

namespace {

void read_picture(const fs::path& file) { data::read_image(file); }
std::string fixture(const char* name) { return io::read_text(fixtures / name); }
std::string cut(std::string s, std::size_t n) { return s.substr(0, n); }
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

const char* const three_studies =
    "study_id,split,frontal_images,findings,impression\ns1,train,one.png,Clear.,Normal.\ns2,train,"
    "two.png,"
    "Clear.,Normal.\ns3,train,three.png,Clear.,Normal.\n";
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

// ---------------------------------------------------------------- tables

namespace {

void open_folder(const fs::path& table) { data::DataFolder(table.parent_path()).select({}); }
void read_labels(const fs::path& file) {
  const data::Labels labels = data::DataFolder(file.parent_path()).labels();
  for (const auto& [column, value] : labels.other_columns) labels.at(column);
}
BadInput table(const std::string& name, const std::string& text,
               std::vector<std::string> patterns) {
  return with_bytes(name, "studies.csv", text, open_folder, std::move(patterns));
}
BadInput labels(const std::string& name, const std::string& text,
                std::vector<std::string> patterns) {
  return {name,
          [=](const fs::path& folder) {
            write_bytes(folder / "studies.csv", three_studies);
            write_bytes(folder / "labels.csv", text);
            return folder / "labels.csv";
          },
          read_labels, std::move(patterns)};
}

}  // namespace

TEST_CASE("tables: missing columns, broken quoting, wrong fields") {
  check({
      table("no study column", "split,frontal_images,findings,impression\ntrain,a.png,x.,y.\n",
            {"'study_id'", "missing"}),
      table("no image column", "study_id,split,findings,impression\ns1,train,x.,y.\n",
            {"'frontal_images'", "missing"}),
      table("no findings column", "study_id,split,frontal_images,impression\ns1,train,a.png,y.\n",
            {"'findings'", "missing"}),
      table("no impression column, but one like it",
            "study_id,split,frontal_images,findings,impresion\ns1,train,a.png,x.,y.\n",
            {"'impression'", "missing", "'impresion'"}),
      table("a bar between the columns",
            "study_id|split|frontal_images|findings|impression\ns1|train|a.png|x.|y.\n",
            {"'study_id'", "missing", "--set delimiter="}),
      table("a quote that is never closed",
            "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.png,\"Clear,\nstill "
            "open.\n",
            {"line 3", "never closed"}),
      table("text after a closing quote",
            "study_id,frontal_images,findings,impression\ns1,a.png,\"One.\nTwo.\" three,y.\n",
            {"line 3", "after a closing quote"}),
      table("a quote inside an unquoted field",
            "study_id,frontal_images,findings,impression\ns1,a.png,5\" nodule,y.\n",
            {"line 2", "inside an unquoted field"}),
      table("an unquoted comma: too many fields",
            "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.png,One, two.,y.\n",
            {"line 3", "expected 4 fields, got 5"}),
      table("a row cut short",
            "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.p",
            {"line 3", "expected 4 fields, got 2"}),
      table("a column twice", "study_id,frontal_images,findings,findings,impression\n",
            {"line 1", "'findings'", "twice"}),
      table("an empty file", "", {"empty"}),
      {"a missing table",
       [](const fs::path& folder) { return folder / "studies.csv"; },
       open_folder,
       {"No such file"}},
      {"a missing folder",
       [](const fs::path& folder) { return folder / "nowhere"; },
       [](const fs::path& p) { data::DataFolder{p}; },
       {"no such folder"}},
      labels("labels without the study column", "study,normal\ns1,1\n",
             {"neither a column 'study_id' nor 'frontal_images'", "--set column_study=NAME"}),
      labels("labels with a broken quote", "study_id,normal\ns1,1\ns2,\"0\n",
             {"line 3", "never closed"}),
      labels("a label that is neither 0 nor 1", "study_id,normal,nodule\ns1,1,0\ns2,0,maybe\n",
             {"line 3", "'nodule'", "expected 0, 1, -1"}),
  });
}

TEST_CASE("an empty report is left out with its line and the reason; the others stay") {
  struct Row {
    const char *name, *sections, *reason;
    bool needs_both;
  };
  for (const Row& row :
       {Row{"both sections absent", ",", "neither findings nor impression", false},
        {"white space", "\"  \n \", ", "neither findings nor impression", false},
        {"nothing is left by cleaning", "XXXX,___", "neither findings nor impression", false},
        {"no findings where both are needed", ",Normal.", "no findings", true},
        {"no impression where both are needed", "Clear.,", "no impression", true}}) {
    INFO(row.name);
    const ScratchFolder f;
    write_bytes(
        f.path / "studies.csv",
        std::string(
            "study_id,frontal_images,findings,impression\ns1,a.png,Clear.,Normal.\ns2,b.png,") +
            row.sections + "\ns3,c.png,Clear.,Normal.\n");
    std::vector<data::Rejected> rejected;
    const auto kept =
        data::DataFolder(f.path).select({.split = {}, .needs_both = row.needs_both}, &rejected);
    REQUIRE(kept.size() == 2);
    CHECK((kept[0].id == "s1" && kept[1].id == "s3"));
    REQUIRE(rejected.size() == 1);
    CHECK(rejected[0].study == "s2");
    CHECK(rejected[0].line == 3);
    CHECK(rejected[0].reason == row.reason);
  }
}

// ---------------------------------------------------------------- vocabularies

TEST_CASE("vocabularies: without [UNK], or damaged otherwise") {
  using Use = std::function<void(const fs::path&)>;
  const Use as_wordpiece = [](const fs::path& p) { data::WordPiece::read(p); };
  const Use as_tokenizer = [](const fs::path& p) { data::Tokenizer::read(p); };
  for (const Use& use : {as_wordpiece, as_tokenizer}) {
    const auto vocabulary = [&](const std::string& name, const std::string& text,
                                std::vector<std::string> patterns) {
      return with_bytes(name, "vocab.txt", text, use, std::move(patterns));
    };
    check({
        vocabulary("no [UNK]", "[PAD]\n[BOS]\n[EOS]\nheart\n", {"no token \\[UNK\\]"}),
        vocabulary("[unk] in small letters", "[PAD]\n[BOS]\n[EOS]\n[unk]\nheart\n",
                   {"no token \\[UNK\\]"}),
        vocabulary("cut before [UNK]", "[PAD]\n[BOS]\n[EOS]\n[UN", {"no token \\[UNK\\]"}),
        vocabulary("no [PAD]", "[BOS]\n[EOS]\n[UNK]\nheart\n", {"no token \\[PAD\\]"}),
        vocabulary("neither [BOS] nor [CLS]", "[PAD]\n[UNK]\n[SEP]\n",
                   {"no token \\[BOS\\] or \\[CLS\\]"}),
        vocabulary("a token twice", "[PAD]\n[BOS]\n[EOS]\n[UNK]\nheart\nheart\n",
                   {"line 6", "'heart'", "twice"}),
        vocabulary("an empty line", "[PAD]\n[BOS]\n\n[EOS]\n[UNK]\n", {"line 3", "empty token"}),
        vocabulary("a token that is not UTF-8", "[PAD]\n[BOS]\n[EOS]\n[UNK]\nna\xefve\n",
                   {"line 5", "not UTF-8"}),
        vocabulary("an empty file", "", {"no token"}),
        {"a missing file",
         [](const fs::path& f) { return f / "vocab.txt"; },
         use,
         {"No such file"}},
    });
  }
}

// ---------------------------------------------------------------- safetensors

namespace {

std::string length(std::uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> 8 * i & 255);
  return s;
}
/// A file with this header and `data` zero bytes.
std::string tensors(const std::string& header, std::size_t data) {
  return length(header.size()) + header + std::string(data, '\0');
}
/// One entry named 'w'.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets,
                  std::size_t data) {
  return tensors("{\"w\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
                     ",\"data_offsets\":" + offsets + "}}",
                 data);
}
/// Two entries of four bytes, 'v' and 'w'.
std::string entries(const std::string& v, const std::string& w, std::size_t data) {
  return tensors("{\"v\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + v +
                     "},\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + w + "}}",
                 data);
}

}  // namespace

TEST_CASE(
    "safetensors: overflowing, overlapping, negative and out-of-range entries, cut and damaged "
    "files") {
  const auto file = [](const std::string& name, const std::string& bytes,
                       std::vector<std::string> patterns) {
    return with_bytes(
        name, "w.safetensors", bytes, [](const fs::path& p) { io::Safetensors::read(p); },
        std::move(patterns));
  };
  const std::string whole = entry("F32", "[2,3]", "[0,24]", 24);
  check({
      // overflow
      file("a product of extents that overflows",
           entry("F64", "[281474976710656,281474976710656,2]", "[0,8]", 8), {"'w'", "overflow"}),
      file("a product that wraps to the right size",
           entry("F32", "[4294967296,4294967296,2]", "[0,0]", 0), {"'w'", "overflow"}),
      file("an extent that wraps with its element size",
           entry("F32", "[4611686018427387906]", "[0,8]", 8),
           {"'w'", "4611686018427387906", "too large|overflow"}),
      file("an extent of 2^64 - 1", entry("F32", "[18446744073709551615]", "[0,8]", 8),
           {"'w'", "18446744073709551615", "too large|overflow"}),
      file("an extent beyond 64 bits", entry("F32", "[18446744073709551618]", "[0,8]", 8),
           {"'w'", "extent", "natural number|too large"}),
      file("an offset of 2^64 - 1", entry("F32", "[2]", "[18446744073709551615,7]", 8),
           {"'w'", "begin at 18446744073709551615 and end at 7"}),
      file("a header length that overflows when 8 is added", length(~std::uint64_t{0} - 3) + "{}",
           {"header of 18446744073709551612 bytes", "limit"}),
      // overlap and holes
      file("two entries that overlap", entries("[0,4]", "[2,6]", 6),
           {"overlaps tensor", "offset 2"}),
      file("two entries on the same bytes", entries("[0,4]", "[0,4]", 4),
           {"overlaps tensor", "offset 0"}),
      file("a hole between two entries", entries("[0,4]", "[5,9]", 9),
           {"hole before tensor", "4 to 5"}),
      file("bytes that belong to no entry", entries("[0,4]", "[4,8]", 9), {"8 of 9"}),
      // negative
      file("a negative extent", entry("F32", "[-2]", "[0,8]", 8),
           {"'w'", "-2", "not a natural number"}),
      file("two negative extents", entry("F32", "[-1,-2]", "[0,8]", 8),
           {"'w'", "-1", "not a natural number"}),
      file("a negative offset", entry("F32", "[2]", "[-8,0]", 8),
           {"'w'", "-8", "not a natural number"}),
      // out of range
      file("an end outside the data", entry("F32", "[4]", "[0,16]", 8),
           {"'w'", "\\[0, 16\\)", "outside 8 data bytes"}),
      file("a range outside the data", entry("F32", "[2]", "[8,16]", 8),
           {"'w'", "\\[8, 16\\)", "outside 8 data bytes"}),
      file("begin after end", entry("F32", "[2]", "[8,0]", 8), {"'w'", "begin at 8 and end at 0"}),
      file("fewer bytes than the shape needs", entry("F32", "[3]", "[0,8]", 8),
           {"'w'", "8 bytes", "needs 12"}),
      file("more bytes than the shape needs", entry("F32", "[1]", "[0,8]", 8),
           {"'w'", "8 bytes", "needs 4"}),
      // cut and damaged
      file("an empty file", "", {"offset 0", "ends"}),
      file("cut inside the header length", cut(whole, 5), {"offset 0", "ends"}),
      file("cut inside the header", cut(whole, 30), {"only 22 follow", "cut short"}),
      file("cut inside the data", cut(whole, whole.size() - 4),
           {"'w'", "\\[0, 24\\)", "20 data bytes", "cut short"}),
      file("a header that is no object", tensors("[1]", 0), {"offset 8", "'\\{'"}),
      file("a header that is no JSON", tensors("{\"w\":}", 0),
           {"line 1, column 6", "syntax error"}),
      file("an unknown element type", entry("f33", "[2]", "[0,8]", 8), {"'w'", "dtype", "'f33'"}),
      file("an entry without offsets", tensors("{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8),
           {"'w'", "data_offsets"}),
      file("an entry twice",
           tensors("{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"w\":{"
                   "\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":["
                   "0,1]}}",
                   1),
           {"'w'", "twice"}),
  });
}

// ---------------------------------------------------------------- weights

namespace {

struct Tiny {
  nn::Linear<float, B> first{2, 3}, last{3, 3, false};
  nn::BatchNorm<float, B> norm{2};
  template <class F>
  void visit(F&& f) {
    f("first", first);
    f("last", last);
    f("norm", norm);
  }
};
Tiny tiny(std::uint64_t seed) {
  Tiny m;
  nn::for_each_state(
      m,
      [&](const std::string&, auto& p) {
        p.value = tensor<float, B>(normal(p.value.size(), ++seed), p.value.shape());
      },
      [&](const std::string&, auto& b) {
        b.value = tensor<float, B>(normal(b.value.size(), ++seed), b.value.shape());
      });
  return m;
}
Values state(Tiny& m) {
  Values all;
  const auto add = [&](const std::string&, auto& p) {
    for (double x : values(p.value)) all.push_back(x);
  };
  nn::for_each_state(m, add, add);
  return all;
}

using Writer = io::SafetensorsWriter;
using Shapes = std::map<std::string, Shape>;
/// Ones of these shapes.
std::function<fs::path(const fs::path&)> weights(const Shapes& shapes,
                                                 const std::string& steps = {}) {
  return [=](const fs::path& folder) {
    Writer w;
    for (const auto& [name, s] : shapes) w.add(name, Tensor<float, B>::full(s, 1.0f));
    if (!steps.empty()) w.metadata("steps", steps);
    w.write(folder / "model.safetensors");
    return folder / "model.safetensors";
  };
}
Shapes changed(Shapes s, const Shapes& changes, const std::vector<std::string>& removed = {}) {
  for (const auto& [n, shape] : changes) s.insert_or_assign(n, shape);
  for (const auto& n : removed) s.erase(n);
  return s;
}

void load_tiny(const fs::path& file) {
  Tiny m = tiny(1);
  const Values before = state(m);
  try {
    train::load_model(file, m);
  } catch (...) {
    CHECK_MESSAGE(state(m) == before, "the weights in memory have changed");
    throw;
  }
}
void load_moments(const fs::path& file) {
  Tiny m = tiny(1);
  optim::AdamW<float, B> o(m, {});
  const auto moments = [&] {
    Values all{static_cast<double>(o.steps())};
    for (auto& e : o.entries())
      for (auto* t : {&e.m, &e.v})
        for (double x : values(*t)) all.push_back(x);
    return all;
  };
  const Values before = moments();
  try {
    train::load_optimizer(file, o);
  } catch (...) {
    CHECK_MESSAGE(moments() == before, "the moments in memory have changed");
    throw;
  }
}

}  // namespace

TEST_CASE(
    "weights of another shape: missing, unexpected and mismatched names are listed, memory stays "
    "as it was") {
  const Shapes fit{{"first.weight", {3, 2}}, {"first.bias", {3}}, {"last.weight", {3, 3}},
                   {"norm.weight", {2}},     {"norm.bias", {2}},  {"norm.running_mean", {2}},
                   {"norm.running_var", {2}}};
  {
    const ScratchFolder f;
    CHECK_NOTHROW(load_tiny(weights(fit)(f.path)));
  }
  check({
      {"one missing",
       weights(changed(fit, {}, {"norm.running_var"})),
       load_tiny,
       {"1 missing: norm\\.running_var$"}},
      {"transposed",
       weights(changed(fit, {{"first.weight", {2, 3}}})),
       load_tiny,
       {"1 mismatched: first\\.weight: expected \\(3, 2\\), got \\(2, 3\\)$"}},
      {"the same number of elements in one dimension",
       weights(changed(fit, {{"last.weight", {9}}})),
       load_tiny,
       {"1 mismatched: last\\.weight: expected \\(3, 3\\), got \\(9\\)"}},
      {"wider",
       weights(changed(fit, {{"first.weight", {4, 2}}, {"first.bias", {4}}})),
       load_tiny,
       {"2 mismatched: first\\.weight: expected \\(3, 2\\), got \\(4, 2\\), first\\.bias: expected "
        "\\(3\\), got \\(4\\)"}},
      {"all three at once",
       weights(changed(fit, {{"extra.a", {1}}, {"extra.b", {1}}, {"last.weight", {3}}},
                       {"first.bias", "norm.bias"})),
       load_tiny,
       {"2 missing: first\\.bias, norm\\.bias", "2 unexpected: extra\\.a, extra\\.b",
        "1 mismatched: last\\.weight: expected \\(3, 3\\), got \\(3\\)"}},
      {"another model",
       weights({{"encoder.weight", {3, 2}}}),
       load_tiny,
       {"7 missing: first\\.weight", "1 unexpected: encoder\\.weight"}},
      {"no tensors at all", weights({}), load_tiny, {"7 missing"}},
  });
}

TEST_CASE("optimizer moments of another shape: the entry is named, memory stays as it was") {
  Shapes fit;
  for (const auto& [n, s] : Shapes{{"first.weight", {3, 2}},
                                   {"first.bias", {3}},
                                   {"last.weight", {3, 3}},
                                   {"norm.weight", {2}},
                                   {"norm.bias", {2}}}) {
    fit.emplace("m." + n, s);
    fit.emplace("v." + n, s);
  }
  {
    const ScratchFolder f;
    CHECK_NOTHROW(load_moments(weights(fit, "7")(f.path)));
  }
  check({
      {"one missing",
       weights(changed(fit, {}, {"v.last.weight"}), "7"),
       load_moments,
       {"'v\\.last\\.weight'", "no tensor|missing"}},
      {"larger",
       weights(changed(fit, {{"m.last.weight", {3, 4}}}), "7"),
       load_moments,
       {"m\\.last\\.weight", "\\(3, 3\\)", "\\(3, 4\\)"}},
      {"transposed",
       weights(changed(fit, {{"m.first.weight", {2, 3}}}), "7"),
       load_moments,
       {"m\\.first\\.weight", "\\(3, 2\\)", "\\(2, 3\\)"}},
      {"no step count", weights(fit), load_moments, {"metadata", "step"}},
      {"a step count that is no number", weights(fit, "-7"), load_moments, {"metadata", "step"}},
  });
}

// ---------------------------------------------------------------- configurations

TEST_CASE("configurations: values out of range are named with the range and what was given") {
  const auto error = [](auto&& change) {
    train::RunConfig c;
    c.data = "somewhere";
    change(c);
    return error_of([&] { c.validate(); });
  };
  CHECK(error([](auto&) {}) == "");
  CHECK(error([](auto& c) {
          c.jitter_contrast = 1;
          c.jitter_brightness = 2;
          c.jitter_rotation = 180;
          c.jitter_scale = 0.9;
        }) == "");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double v : {-0.01, 180.5, nan}) {
    for (const auto& [key, member] :
         {std::pair{"jitter_contrast", &train::RunConfig::jitter_contrast},
          {"jitter_brightness", &train::RunConfig::jitter_brightness},
          {"jitter_rotation", &train::RunConfig::jitter_rotation},
          {"jitter_scale", &train::RunConfig::jitter_scale}}) {
      const std::string e = error([&, m = member](auto& c) { c.*m = v; });
      CHECK_MESSAGE(holds(e, std::string(key) + ": expected a number from 0 to "), e);
      CHECK_MESSAGE(holds(e, v == v ? v < 0 ? "got -0.01" : "got 180.5" : "got nan"), e);
    }
  }
  CHECK(holds(error([](auto& c) { c.jitter_scale = 1; }), "from 0 to 0.9"));
  using Change = void (*)(train::RunConfig&);
  for (const auto& [key, change] :
       {std::pair<const char*, Change>{"lambda_cg",
                                       [](train::RunConfig& c) { c.model.lambda_cg = -1; }},
        {"lambda_dis", [](train::RunConfig& c) { c.model.lambda_dis = -0.1; }},
        {"label_smoothing_cg", [](train::RunConfig& c) { c.model.label_smoothing_cg = 1; }},
        {"label_smoothing_gen", [](train::RunConfig& c) { c.model.label_smoothing_gen = -0.5; }},
        {"gamma1", [](train::RunConfig& c) { c.model.gamma1 = 0; }},
        {"ln_eps", [](train::RunConfig& c) { c.model.ln_eps = -1; }},
        {"log_scale_init", [](train::RunConfig& c) { c.model.log_scale_init = 99; }},
        {"log_scale_max", [](train::RunConfig& c) { c.model.log_scale_max = -1; }},
        {"warmup", [](train::RunConfig& c) { c.warmup = 5; }},
        {"seed", [](train::RunConfig& c) { c.seed = -5; }},
        {"epochs_stage1, epochs_stage2",
         [](train::RunConfig& c) { c.epochs_stage1 = c.epochs_stage2 = 0; }}}) {
    const std::string e = error(change);
    CHECK_MESSAGE(holds(e, std::string(key) + ": expected "), key, " gave: ", e);
  }
}

TEST_CASE("configurations: wrong types, unknown keys, broken JSON") {
  const auto config = [](const std::string& name, const std::string& text,
                         std::vector<std::string> patterns) {
    return with_bytes(
        name, "run.json", text, [](const fs::path& p) { train::RunConfig::read(p); },
        std::move(patterns));
  };
  check({
      config("a text for a whole number", R"({"batch": "many"})",
             {"'batch'", "whole number", "\"many\""}),
      config("a fraction for a whole number", R"({"batch": 8.5})",
             {"'batch'", "whole number", "8\\.5"}),
      config("true for a whole number", R"({"seed": true})", {"'seed'", "whole number", "true"}),
      config("a whole number that does not fit", R"({"batch": 18446744073709551615})",
             {"'batch'", "smaller", "18446744073709551615"}),
      config("a text for a number", R"({"lr_stage1": "3e-4"})",
             {"'lr_stage1'", "expects a number", "\"3e-4\""}),
      config("null for a number", R"({"warmup": null})", {"'warmup'", "expects a number", "null"}),
      config("1 for true", R"({"overfit_batch": 1})",
             {"'overfit_batch'", "true or false", "got 1"}),
      config("a number for a text", R"({"encoder": 7})", {"'encoder'", "a text", "got 7"}),
      config("a number for a list", R"({"resnet_depths": 3})",
             {"'resnet_depths'", "a list", "got 3"}),
      config("a list that is too short", R"({"resnet_depths": [1, 1, 1]})",
             {"'resnet_depths'", "a list of 4", "\\[1,1,1\\]"}),
      config("a text inside a list", R"({"resnet_depths": [1, 1, "1", 1]})",
             {"'resnet_depths'", "whole number", "\"1\""}),
      config("an object for a number", R"({"lambda_cg": {"value": 1}})",
             {"'lambda_cg'", "expects a number"}),
      config("an unknown key", R"({"batch": 8, "batsh": 8})",
             {"'batsh'", "unknown key", "'batch'"}),
      config("a key in capitals", R"({"Batch": 8})", {"'Batch'", "unknown key"}),
      config("a key like nothing", R"({"learning_rate_of_stage_1": 1})",
             {"'learning_rate_of_stage_1'", "unknown key"}),
      config("a key twice", R"({"batch": 8, "seed": 1, "batch": 16})", {"'batch'", "twice"}),
      config("a preset of the wrong type", R"({"preset": 3})", {"'preset'", "wrong type", "3"}),
      config("an unknown preset", R"({"preset": "tinny"})", {"'tinny'", "unknown preset", "tiny"}),
      config("no object", R"([{"batch": 8}])", {"object"}),
      config("cut in half", "{\n \"batch\": 8,\n \"se",
             {"line 3, column", "missing closing quote|unexpected end"}),
      config("a comma too many", "{\n \"batch\": 8,\n}", {"line 3, column 1", "unexpected '\\}'"}),
      config("an empty file", "", {"line 1, column 1", "unexpected end of input"}),
      {"a missing file",
       [](const fs::path& f) { return f / "run.json"; },
       [](const fs::path& p) { train::RunConfig::read(p); },
       {"No such file"}},
  });
}

TEST_CASE("--set: the same checks, and a refused value changes nothing") {
  struct Row {
    const char* assignment;
    std::vector<std::string> patterns;
  };
  train::RunConfig c;
  const io::Json before = io::to_json(c);
  for (const Row& row : {Row{"batch=many", {"'batch'", "whole number", "many"}},
                         {"batch=1e3", {"'batch'", "whole number", "1000"}},
                         {"batsh=8", {"'batsh'", "unknown key", "'batch'"}},
                         {"overfit_batch=yes", {"'overfit_batch'", "true or false", "yes"}},
                         {"resnet_depths=[1,2]", {"'resnet_depths'", "a list of 4"}},
                         {"batch", {"batch", "key=value"}}}) {
    INFO(row.assignment);
    check_error(error_of([&] { io::override_key(c, row.assignment); }), "--set", row.patterns);
    CHECK(io::to_json(c) == before);
  }
}
