// Safetensors files, of Python and our own, whole and damaged.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "hybridmed/io/json.hpp"
#include "hybridmed/io/safetensors.hpp"
#include "io.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using B = Reference;
namespace fs = std::filesystem;

namespace {

std::vector<double> all(const io::StoredTensor& t) {
  std::vector<double> out;
  for (Index i = 0; i < t.size(); ++i) out.push_back(t.at(i));
  return out;
}

}  // namespace

TEST_CASE("a file written by Python reads exactly, every element type") {
  const auto file = io::Safetensors::read(fixtures / "python.safetensors");
  CHECK(file.tensors().size() == 12);
  CHECK(file.metadata().at("made by") == "numpy");
  CHECK(file.metadata().at("text") == "\xC3\xA9");
  const auto shape = [&](const char* name) { return file.at(name).shape; };
  CHECK(shape("f64") == std::vector<Index>{1, 2});
  CHECK(all(file.at("f64")) == std::vector<double>{1.0 / 3, -2e300});
  CHECK(shape("f32") == std::vector<Index>{2, 3});
  CHECK(all(file.at("f32")) ==
        std::vector<double>{0.0, -1.5, 3.25, static_cast<double>(1e-30f), -65504.0, 0x1p-149});
  CHECK(all(file.at("bf16")) == std::vector<double>{1.0, -2.5, 0.15625});
  const auto half = all(file.at("f16"));
  REQUIRE(half.size() == 8);
  CHECK(std::vector<double>(half.begin(), half.begin() + 5) ==
        std::vector<double>{1.0, -2.5, 0x1p-24, 65504.0, HUGE_VAL});
  CHECK(std::isnan(half[5]));
  CHECK((half[6] == 0 && std::signbit(half[6])));
  CHECK(half[7] == 0x1p-14);
  CHECK(all(file.at("i64")) == std::vector<double>{-9007199254740992.0, 7});
  CHECK(all(file.at("i32")) == std::vector<double>{-2147483648.0, 2147483647.0});
  CHECK(all(file.at("i16")) == std::vector<double>{-32768, 32767});
  CHECK(all(file.at("i8")) == std::vector<double>{-128, 127});
  CHECK(all(file.at("u8")) == std::vector<double>{0, 255});
  CHECK(all(file.at("bool")) == std::vector<double>{1, 0});
  CHECK(shape("scalar").empty());
  CHECK(all(file.at("scalar")) == std::vector<double>{2.5});
  CHECK(shape("empty") == std::vector<Index>{0, 3});
  CHECK(file.at("empty").size() == 0);
  CHECK(file.find("none") == nullptr);
  const std::string e = error_of([&] { file.at("none"); });
  CHECK_MESSAGE((holds(e, "'none'") && holds(e, "python.safetensors")), e);
}

TEST_CASE("written tensors read back, empty and scalar ones included") {
  const ScratchFolder f;
  const fs::path path = f.path / "x.safetensors";
  io::SafetensorsWriter w;
  w.add("z double", tensor<double, B>({1.0 / 3, -0.0, 1e300}, {3}));
  w.add("a float", tensor<float, B>({1.5, 2.5, -3.5, 4.5, 5.5, 6.5}, {2, 1, 3}));
  w.add("scalar", tensor<float, B>({7.25}, {}));
  w.add("empty", tensor<float, B>({}, {0, 3}));
  w.add("index", indices<B>({-1, 2147483647}));
  w.add("half",
        Tensor<bfloat16, B>::from_host(
            std::vector<bfloat16>{bfloat16(1.0f), bfloat16(-2.5f), bfloat16(0.15625f)}, {3}));
  w.metadata("note", "quote \" and \xC3\xA9");
  w.write(path);

  const auto file = io::Safetensors::read(path);
  CHECK(file.tensors().size() == 6);
  CHECK(file.metadata().at("note") == "quote \" and \xC3\xA9");
  CHECK(file.at("z double").type == io::DType::f64);
  CHECK(all(file.at("z double")) == std::vector<double>{1.0 / 3, -0.0, 1e300});
  CHECK(std::signbit(file.at("z double").at(1)));
  CHECK(file.at("a float").shape == std::vector<Index>{2, 1, 3});
  CHECK(all(file.at("a float")) == std::vector<double>{1.5, 2.5, -3.5, 4.5, 5.5, 6.5});
  CHECK(file.at("scalar").shape.empty());
  CHECK(all(file.at("scalar")) == std::vector<double>{7.25});
  CHECK(file.at("empty").shape == std::vector<Index>{0, 3});
  CHECK(file.at("empty").size() == 0);
  CHECK(file.at("index").type == io::DType::i32);
  CHECK(all(file.at("index")) == std::vector<double>{-1, 2147483647});
  CHECK(file.at("half").type == io::DType::bf16);
  CHECK(all(file.at("half")) == std::vector<double>{1.0, -2.5, 0.15625});

  // Layout: the data begins at a multiple of 8, and every tensor at a multiple of its element's
  // size.
  const std::string raw = text_of(path);
  std::uint64_t header = 0;
  std::memcpy(&header, raw.data(), 8);
  CHECK(header % 8 == 0);
  CHECK(raw[8] == '{');
  const auto j = io::parse_json(std::string_view(raw).substr(8, header), "header");
  for (const auto& [name, e] : j.items()) {
    if (name == "__metadata__") continue;
    const std::size_t size = e.at("dtype") == "F64" ? 8 : e.at("dtype") == "BF16" ? 2 : 4;
    CHECK(e.at("data_offsets")[0].get<std::size_t>() % size == 0);
  }

  io::SafetensorsWriter nothing;
  nothing.write(path);
  CHECK(io::Safetensors::read(path).tensors().empty());
  const fs::path orphan = f.path / "no folder" / "x.safetensors";
  const std::string e = error_of([&] { nothing.write(orphan); });
  CHECK_MESSAGE(holds(e, orphan.string()), e);
}

TEST_CASE("a tensor added twice does not give a file that cannot be read") {
  const ScratchFolder f;
  const fs::path path = f.path / "twice.safetensors";
  const std::string e = error_of([&] {
    io::SafetensorsWriter w;
    w.add("x", tensor<float, B>({1}, {1}));
    w.add("x", tensor<float, B>({2}, {1}));
    w.write(path);
  });
  if (e.empty()) CHECK(error_of([&] { io::Safetensors::read(path); }) == "");
}

TEST_CASE("safetensors: every kind of damage is an Error that names the source") {
  const std::string ok = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
  CHECK_NOTHROW(io::Safetensors(bytes(file(ok, 8)), "ok"));
  CHECK_NOTHROW(io::Safetensors(bytes(file(ok + "      ", 8)), "ok"));  // padding
  CHECK_NOTHROW(io::Safetensors(bytes(file("{}")), "ok"));
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
    return "{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
           "}}";
  };
  const auto two = [](const std::string& first, const std::string& second) {
    return "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + first +
           "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + second + "}}";
  };
  CHECK_NOTHROW(io::Safetensors(bytes(file(two("[4,8]", "[0,4]"), 8)), "ok"));  // any order
  struct Case {
    std::string what, image;
  };
  const std::vector<Case> cases{
      {"an empty file", ""},
      {"7 bytes", length(2).substr(0, 7)},
      {"only a length", length(2)},
      {"a header longer than the file", length(ok.size() + 9) + ok + std::string(8, '\0')},
      {"a header cut short", file(ok, 8).substr(0, 20)},
      {"a header of more than 100 MiB", length((std::uint64_t{100} << 20) + 1) + ok},
      {"a header length that overflows when 8 is added", length(~std::uint64_t{0} - 3) + ok},
      {"the largest header length", length(~std::uint64_t{0}) + ok},
      {"the sign bit alone", length(std::uint64_t{1} << 63) + ok},
      {"an empty header", file("")},
      {"a space before the brace", file(" " + ok, 8)},
      {"a list as header", file("[]")},
      {"a byte order mark", file("\xEF\xBB\xBF" + ok, 8)},
      {"bad JSON", file("{\"a\":", 8)},
      {"text after the JSON", file(ok + "x", 8)},
      {"zero bytes as padding", file(ok + std::string(3, '\0'), 8)},
      {"a comma too many", file("{\"a\":1,}", 8)},
      {"a name that is not UTF-8",
       file("{\"\xFF\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8)},
      {"a tensor twice", file("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                              "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                              8)},
      {"a key twice inside a tensor",
       file("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"shape\":[2],\"data_offsets\":[0,8]}}", 8)},
      {"100,000 brackets", file("{\"a\":" + std::string(100000, '['), 8)},
      {"an entry that is no object", file("{\"a\":1}", 8)},
      {"no dtype", file("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8)},
      {"no shape", file("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8)},
      {"no offsets", file("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8)},
      {"a dtype that is no name", file(one("\"F 33\"", "[2]", "[0,8]"), 8)},
      {"a dtype in small letters", file(one("\"f32\"", "[2]", "[0,8]"), 8)},
      {"a dtype that is a number", file(one("32", "[2]", "[0,8]"), 8)},
      {"a negative extent", file(one("\"F32\"", "[-2]", "[0,8]"), 8)},
      {"two negative extents", file(one("\"F32\"", "[-1,-2]", "[0,8]"), 8)},
      {"an extent with a fraction", file(one("\"F32\"", "[2.0]", "[0,8]"), 8)},
      {"an extent with an exponent", file(one("\"F32\"", "[2e0]", "[0,8]"), 8)},
      {"an extent that is a text", file(one("\"F32\"", "[\"2\"]", "[0,8]"), 8)},
      {"an extent that is null", file(one("\"F32\"", "[null]", "[0,8]"), 8)},
      {"an extent of 2^64 - 1", file(one("\"F32\"", "[18446744073709551615]", "[0,8]"), 8)},
      {"an extent beyond 64 bits", file(one("\"F32\"", "[18446744073709551618]", "[0,8]"), 8)},
      {"an extent that overflows with its element size",
       file(one("\"F32\"", "[4611686018427387906]", "[0,8]"), 8)},  // 4 n = 8 modulo 2^64
      {"a product that wraps to the right size",
       file(one("\"F32\"", "[4294967296,4294967296,2]", "[0,0]"))},
      {"a product that overflows",
       file(one("\"F64\"", "[281474976710656,281474976710656,2]", "[0,8]"), 8)},
      {"a product beyond the file", file(one("\"F32\"", "[1000000,1000000]", "[0,8]"), 8)},
      {"begin after end", file(one("\"F32\"", "[2]", "[8,0]"), 8)},
      {"an end outside the data", file(one("\"F32\"", "[2]", "[0,16]"), 8)},
      {"a range outside the data", file(one("\"F32\"", "[2]", "[8,16]"), 8)},
      {"a negative offset", file(one("\"F32\"", "[2]", "[-8,0]"), 8)},
      {"an offset with a fraction", file(one("\"F32\"", "[2]", "[0,8.0]"), 8)},
      {"an offset of 2^64 - 1", file(one("\"F32\"", "[2]", "[18446744073709551615,7]"), 8)},
      {"one offset", file(one("\"F32\"", "[2]", "[0]"), 8)},
      {"three offsets", file(one("\"F32\"", "[2]", "[0,8,8]"), 8)},
      {"more bytes than the shape needs", file(one("\"F32\"", "[1]", "[0,8]"), 8)},
      {"fewer bytes than the shape needs", file(one("\"F32\"", "[3]", "[0,8]"), 8)},
      {"bytes for an empty shape", file(one("\"F32\"", "[0]", "[0,8]"), 8)},
      {"an empty range for a scalar", file(one("\"F32\"", "[]", "[0,0]"))},
      {"an empty range outside the data",
       file("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[99,99]}}")},
      {"tensors that overlap", file(two("[0,4]", "[2,6]"), 6)},
      {"tensors on the same bytes", file(two("[0,4]", "[0,4]"), 4)},
      {"a hole between tensors", file(two("[0,4]", "[5,9]"), 9)},
      {"a hole before the first", file(two("[1,5]", "[5,9]"), 9)},
      {"bytes after the last", file(ok, 9)},
      {"data without tensors", file("{}", 1)},
      {"data cut short", file(ok, 7)},
      {"metadata that is a list", file("{\"__metadata__\":[]}")},
      {"metadata with a number", file("{\"__metadata__\":{\"a\":1}}")},
  };
  for (const auto& c : cases) {
    CAPTURE(c.what);
    std::string e;
    CHECK_NOTHROW(e = error_of([&] {
                    io::Safetensors(bytes(c.image), "folder/weights.safetensors");
                  }));  // no other exception
    CHECK_MESSAGE(holds(e, "folder/weights.safetensors"), e);
  }
  // Any cut and any flipped byte: an Error or a file that reads.
  const std::string whole = text_of(fixtures / "python.safetensors");
  for (std::size_t n = 0; n < whole.size(); n += 3)
    CHECK(error_of([&] { io::Safetensors(bytes(whole.substr(0, n)), "cut"); }) != "");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    CHECK_NOTHROW(error_of([&] {
      const io::Safetensors s(bytes(damaged), "flipped");
      for (const auto& [name, t] : s.tensors()) all(t);
    }));
  }
}

TEST_CASE("a file of torch.save gets a hint") {
  for (const std::string& magic : {std::string("PK\x03\x04"), std::string("\x80\x02}q")}) {
    const std::string e =
        error_of([&] { io::Safetensors(bytes(magic + std::string(60, 'x')), "model.pt"); });
    CHECK_MESSAGE((holds(e, "model.pt") && holds(e, "torch.save") && holds(e, "save_file")), e);
  }
}
