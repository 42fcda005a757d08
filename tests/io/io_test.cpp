// Files, JSON, configurations, safetensors and weights.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../support.hpp"
#include "errors.hpp"
#include "hybridmed/io/checksum.hpp"
#include "hybridmed/io/config.hpp"
#include "hybridmed/io/file.hpp"
#include "hybridmed/io/json.hpp"
#include "hybridmed/io/safetensors.hpp"
#include "hybridmed/io/weights.hpp"
#include "hybridmed/nn/layers.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;
using hybridmed::test::holds;
using namespace hybridmed::test;
namespace io = hybridmed::io;
namespace fs = std::filesystem;

namespace {

using B = Reference;
const fs::path fixtures = HYBRIDMED_FIXTURES;

using Folder = test::ScratchFolder;
std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {(std::istreambuf_iterator<char>(in)), {}};
}
std::vector<std::byte> bytes(const std::string& s) {
  std::vector<std::byte> b(s.size());
  std::copy(s.begin(), s.end(), reinterpret_cast<char*>(b.data()));
  return b;
}
std::string length(std::uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> 8 * i & 255);
  return s;
}
/// A safetensors file image: the header's true length, the header, `data` zero bytes.
std::string file(const std::string& header, std::size_t data = 0) {
  return length(header.size()) + header + std::string(data, '\0');
}

/// Runs f in a child process: "ok", "error" (threw Error), "exception", or "crash". For inputs that
/// may exhaust the stack.
template <class F>
std::string in_child(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (int signal : {SIGSEGV, SIGBUS, SIGABRT})
      std::signal(signal,
                  SIG_DFL);  // the test runner's handlers would report the child's end as their own
    ::alarm(20);
    int rc = 0;
    try {
      f();
    } catch (const Error&) {
      rc = 1;
    } catch (...) {
      rc = 2;
    }
    ::_exit(rc);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status)) return "crash";
  return WEXITSTATUS(status) == 0 ? "ok" : WEXITSTATUS(status) == 1 ? "error" : "exception";
}

std::vector<double> all(const io::StoredTensor& t) {
  std::vector<double> out;
  for (Index i = 0; i < t.size(); ++i) out.push_back(t.at(i));
  return out;
}

}  // namespace

// ---------------------------------------------------------------- files

TEST_CASE("reading: whole files, and errors that name the file") {
  const Folder f;
  const fs::path path = f.path / "a file.bin";
  const std::string content("line\r\n\0\xFFtail", 12);
  std::ofstream(path, std::ios::binary) << content;
  CHECK(io::read_text(path) == content);
  CHECK(io::read_file(path).size() == 12);
  std::ofstream(f.path / "empty").close();
  CHECK(io::read_text(f.path / "empty").empty());
  for (const fs::path& bad : {f.path / "missing", f.path / "no folder" / "x", f.path}) {
    const std::string e = error_of([&] { io::read_file(bad); });
    CHECK_MESSAGE(holds(e, bad.string()), e);
  }
}

TEST_CASE("an atomic write replaces the file whole, or leaves the old one") {
  const Folder f;
  const fs::path path = f.path / "config.json";
  io::write_text_atomically(path, "old");
  CHECK(text_of(path) == "old");
  io::write_text_atomically(path, "new, and longer");
  CHECK(text_of(path) == "new, and longer");
  io::write_text_atomically(path, "");
  CHECK(text_of(path) == "");
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator(f.path)) ++files;
  CHECK(files == 1);  // no temporary file stays

  const fs::path orphan = f.path / "no folder" / "config.json";
  std::string e = error_of([&] { io::write_text_atomically(orphan, "x"); });
  CHECK_MESSAGE(holds(e, orphan.string()), e);

  // A disk that fills up while writing: a device without room stands for it.
  if (fs::exists("/dev/full")) {
    io::write_text_atomically(path, "old");
    e = error_of([&] {
      io::write_atomically(path, [](const fs::path&) { io::write_text("/dev/full", "new"); });
    });
    CHECK_MESSAGE(holds(e, "No space left"), e);
    CHECK(text_of(path) == "old");
  }
  // A folder of that name stands in the way.
  fs::create_directories(f.path / "taken" / "inside");
  e = error_of([&] { io::write_text_atomically(f.path / "taken", "x"); });
  CHECK_MESSAGE(holds(e, (f.path / "taken").string()), e);
  CHECK(fs::is_directory(f.path / "taken" / "inside"));

  if (::geteuid() != 0) {  // root may write anywhere
    io::write_text_atomically(path, "old");
    fs::permissions(f.path, fs::perms::owner_read | fs::perms::owner_exec);
    e = error_of([&] { io::write_text_atomically(path, "new"); });
    CHECK_MESSAGE(holds(e, path.string()), e);
    CHECK(text_of(path) == "old");
    fs::permissions(f.path, fs::perms::owner_all);
  }
}

TEST_CASE("a failed atomic write leaves no temporary file behind") {
  const Folder f;
  fs::create_directories(f.path / "taken" / "inside");
  CHECK(error_of([&] { io::write_text_atomically(f.path / "taken", "x"); }) != "");
  CHECK(!fs::exists(f.path / "taken.tmp"));
}

// ---------------------------------------------------------------- JSON

TEST_CASE("JSON: strict parsing, errors name the source") {
  CHECK(io::parse_json("{\"b\": [1, 2.5, null, true], \"a\": {\"b\": \"\\u00e9\"}}", "x.json")
            .at("a")
            .at("b") == "\xC3\xA9");
  CHECK(io::parse_json("\xEF\xBB\xBF{\"a\": 1}", "x.json").at("a") == 1);
  const auto order = io::parse_json("{\"z\": 1, \"a\": 2}", "x.json");
  CHECK(order.begin().key() == "z");  // keys keep their order
  for (const std::string bad :
       {"", "{", "}", "{\"a\": }", "{\"a\": 1,}", "{'a': 1}", "[1, 2", "[1 2]", "nan",
        "{\"a\": 01}", "{\"a\": 1} x", "\"open", "{\"a\": \"\x01\"}", "\"\xFF\"",
        "// no comments\n{}", "{\"a\": +1}"}) {
    const std::string e = error_of([&] { io::parse_json(bad, "folder/x.json"); });
    CHECK_MESSAGE(holds(e, "folder/x.json"), bad, " gave ", e);
  }
}

TEST_CASE("JSON: a zero byte does not end the text") {
  for (const std::string& bad :
       {std::string("{\"a\": 1}\0", 9), std::string("{\"a\": 1}\0{\"b\": 2}", 17),
        std::string("{\"a\": 1\0}", 9)}) {
    const std::string e = error_of([&] { io::parse_json(bad, "folder/x.json"); });
    CHECK_MESSAGE(holds(e, "folder/x.json"), e);
  }
}

TEST_CASE("JSON: a key that stands twice is an error, at any depth") {
  for (const std::string bad :
       {"{\"size\": 1, \"size\": 2}", "{\"a\": {\"size\": 1, \"b\": 2, \"size\": 1}}",
        "[{\"size\": 1}, {\"size\": 1, \"size\": {}}]",
        "{\"size\": {\"x\": 1}, \"y\": [], \"size\": 0}"}) {
    const std::string e = error_of([&] { io::parse_json(bad, "x.json"); });
    CHECK_MESSAGE((holds(e, "x.json") && holds(e, "'size'")), bad, " gave ", e);
  }
  CHECK_NOTHROW(io::parse_json(
      "{\"size\": {\"size\": 1}, \"b\": {\"size\": [{\"size\": 2}, {\"size\": 2}]}}", "x.json"));
}

TEST_CASE("JSON: deep nesting is refused") {
  const std::size_t n = 100000;
  std::string objects;
  for (std::size_t i = 0; i < n; ++i) objects += "{\"a\":";
  for (const std::string& deep : {std::string(n, '['), std::string(n, '[') + std::string(n, ']'),
                                  objects, objects + "1" + std::string(n, '}')}) {
    const std::string e = error_of([&] { io::parse_json(deep, "deep.json"); });
    CHECK_MESSAGE(holds(e, "deep.json"), e.substr(0, 200));
  }
  CHECK_NOTHROW(io::parse_json(std::string(50, '[') + std::string(50, ']'), "x.json"));
}

TEST_CASE("JSON: brackets inside texts neither hide nor feign nesting") {
  std::string hidden;  // ["]",["]",[...: every text closes what the next bracket opens, for a
                       // counter that reads texts
  for (int i = 0; i < 100000; ++i) hidden += "[\"]\",";
  hidden += "0" + std::string(100000, ']');
  CHECK(in_child([&] { io::parse_json(hidden, "hidden.json"); }) == "error");
  CHECK(error_of([] {
          io::parse_json("{\"text\": \"" + std::string(300, '[') + "\"}", "x.json");
        }) == "");
}

TEST_CASE("JSON: get names the source, the key and what was found") {
  const auto j = io::parse_json("{\"size\": \"large\", \"n\": 3}", "x.json");
  CHECK(io::get<int>(j, "n", "x.json") == 3);
  std::string e = error_of([&] { io::get<int>(j, "size", "x.json"); });
  CHECK_MESSAGE((holds(e, "x.json") && holds(e, "'size'") && holds(e, "large")), e);
  e = error_of([&] { io::get<int>(j, "none", "x.json"); });
  CHECK_MESSAGE((holds(e, "x.json") && holds(e, "'none'")), e);
  const fs::path missing = fixtures / "missing.json";
  e = error_of([&] { io::read_json(missing); });
  CHECK_MESSAGE(holds(e, missing.string()), e);
}

// ---------------------------------------------------------------- configurations

namespace {
struct Settings {
  std::int64_t batch = 64;
  std::size_t width = 128;
  int workers = 2;
  double rate = 1e-4;
  bool shuffle = true;
  std::string encoder = "resnet";
  std::vector<int> depths{3, 4, 6, 3};
  std::array<double, 2> betas{0.9, 0.999};
  template <class F>
  void visit(F&& f) {
    f("batch", batch);
    f("width", width);
    f("workers", workers);
    f("rate", rate);
    f("shuffle", shuffle);
    f("encoder", encoder);
    f("depths", depths);
    f("betas", betas);
  }
};
std::string config_error(const std::string& text, Settings* out = nullptr) {
  return error_of([&] {
    Settings s;
    io::from_json(io::parse_json(text, "run.json"), s, "run.json");
    if (out) *out = s;
  });
}
}  // namespace

TEST_CASE("configurations: named keys are read, the others keep their defaults") {
  Settings s;
  CHECK(config_error("{\"batch\": 8, \"rate\": 1, \"shuffle\": false, \"encoder\": \"vit\", "
                     "\"depths\": [1, 2], \"betas\": [0, 0.5]}",
                     &s) == "");
  CHECK((s.batch == 8 && s.rate == 1 && !s.shuffle && s.encoder == "vit" && s.width == 128));
  CHECK(s.depths == std::vector<int>{1, 2});
  CHECK(s.betas == std::array<double, 2>{0, 0.5});
  const auto j = io::to_json(s);
  Settings again;
  io::from_json(j, again, "again");
  CHECK(io::to_json(again) == j);
  CHECK(j.size() == 8);
  CHECK(j.begin().key() == "batch");
}

TEST_CASE("configurations: an unknown key names the nearest") {
  std::string e = config_error("{\"batsh\": 8}");
  CHECK_MESSAGE((holds(e, "run.json") && holds(e, "'batsh'") && holds(e, "'batch'")), e);
  e = config_error("{\"suffle\": true}");
  CHECK_MESSAGE((holds(e, "'suffle'") && holds(e, "'shuffle'")), e);
  e = config_error("[1]");
  CHECK_MESSAGE(holds(e, "run.json"), e);
  Settings s;
  CHECK_NOTHROW(io::from_json(io::parse_json("{\"other\": 1, \"batch\": 2}", "x"), s, "x", true));
  CHECK(s.batch == 2);
  CHECK(io::edit_distance("kitten", "sitting") == 3);
  CHECK(io::edit_distance("", "abc") == 3);
  CHECK(io::edit_distance("same", "same") == 0);
}

TEST_CASE("configurations: a wrong type names the key and what was found") {
  struct Case {
    std::string text, key, found;
  };
  for (const auto& [text, key, found] : {Case{"{\"batch\": \"many\"}", "'batch'", "many"},
                                         {"{\"batch\": 8.5}", "'batch'", "8.5"},
                                         {"{\"batch\": true}", "'batch'", "true"},
                                         {"{\"batch\": null}", "'batch'", "null"},
                                         {"{\"rate\": \"1e-4\"}", "'rate'", "1e-4"},
                                         {"{\"shuffle\": 1}", "'shuffle'", "1"},
                                         {"{\"encoder\": 7}", "'encoder'", "7"},
                                         {"{\"depths\": 3}", "'depths'", "3"},
                                         {"{\"depths\": [\"a\"]}", "'depths'", "a"},
                                         {"{\"betas\": [0.9]}", "'betas'", "0.9"},
                                         {"{\"betas\": [0.9, 1, 2]}", "'betas'", "2"},
                                         {"{\"batch\": {\"n\": 1}}", "'batch'", "n"}}) {
    const std::string e = config_error(text);
    CHECK_MESSAGE((holds(e, "run.json") && holds(e, key) && holds(e, found)), text, " gave ", e);
  }
}

TEST_CASE("configurations: whole numbers that do not fit are errors, not other numbers") {
  for (const std::string text :
       {"{\"width\": -1}", "{\"workers\": 5000000000}", "{\"workers\": -5000000000}",
        "{\"batch\": 18446744073709551615}"}) {
    Settings s;
    const std::string e = config_error(text, &s);
    CHECK_MESSAGE(holds(e, "run.json"), text, " gave width ", s.width, ", workers ", s.workers,
                  ", batch ", s.batch);
  }
}

TEST_CASE("configurations: the elements of a list are checked as single values are") {
  for (const std::string text : {"{\"depths\": [1.5, 2]}", "{\"depths\": [true]}",
                                 "{\"depths\": [5000000000]}", "{\"betas\": [true, false]}"}) {
    Settings s;
    const std::string e = config_error(text, &s);
    CHECK_MESSAGE(holds(e, "run.json"), text, " was accepted as ", io::to_json(s).dump());
  }
}

TEST_CASE("override_key takes JSON values and plain texts") {
  Settings s;
  io::override_key(s, "batch=16");
  io::override_key(s, "rate=5e-4");
  io::override_key(s, "shuffle=false");
  io::override_key(s, "encoder=swin");
  io::override_key(s, "depths=[1,2,3]");
  CHECK((s.batch == 16 && s.rate == 5e-4 && !s.shuffle && s.encoder == "swin"));
  CHECK(s.depths == std::vector<int>{1, 2, 3});
  io::override_key(s, "encoder=\"vit\"");
  CHECK(s.encoder == "vit");
  io::override_key(s, "encoder=a=b");  // only the first sign parts key and value
  CHECK(s.encoder == "a=b");
  io::override_key(s, "encoder=7");  // a text where the field is one
  CHECK(s.encoder == "7");
  io::override_key(s, "encoder=");
  CHECK(s.encoder == "");
  for (const char* bad : {"batch", "=3", ""})
    CHECK(error_of([&] { io::override_key(s, bad); }) != "");
  std::string e = error_of([&] { io::override_key(s, "batsh=3"); });
  CHECK_MESSAGE((holds(e, "'batsh'") && holds(e, "'batch'")), e);
  e = error_of([&] { io::override_key(s, "batch=many"); });
  CHECK_MESSAGE((holds(e, "'batch'") && holds(e, "many")), e);
  CHECK(s.batch == 16);
}

TEST_CASE("override_key survives deeply nested values") {
  const std::string deep = "depths=" + std::string(100000, '[') + std::string(100000, ']');
  CHECK(in_child([&] {
          Settings s;
          io::override_key(s, deep);
        }) == "error");
}

// ---------------------------------------------------------------- safetensors

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
  const Folder f;
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
  const Folder f;
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

// ---------------------------------------------------------------- weights

namespace {
struct Tiny {
  nn::Linear<float, B> first{2, 3};
  std::vector<nn::Linear<float, B>> more{nn::Linear<float, B>(3, 1),
                                         nn::Linear<float, B>(1, 2, false)};
  nn::BatchNorm<float, B> norm{2};
  template <class F>
  void visit(F&& f) {
    f("first", first);
    f("more", more);
    f("norm", norm);
  }
};
Tiny tiny(std::uint64_t seed) {
  Tiny m;
  std::uint64_t k = seed;
  nn::for_each_state(
      m,
      [&](const std::string&, auto& p) {
        p.value = tensor<float, B>(normal(p.value.size(), ++k), p.value.shape());
      },
      [&](const std::string&, auto& b) {
        b.value = tensor<float, B>(normal(b.value.size(), ++k), b.value.shape());
      });
  return m;
}
const std::vector<std::string> names{"first.weight", "first.bias",        "more.0.weight",
                                     "more.0.bias",  "more.1.weight",     "norm.weight",
                                     "norm.bias",    "norm.running_mean", "norm.running_var"};
}  // namespace

TEST_CASE("weights and buffers go to a file and come back, under a prefix too") {
  const Folder f;
  const fs::path path = f.path / "w.safetensors";
  Tiny a = tiny(1), b = tiny(100);
  for (const std::string& prefix : {std::string(), std::string("model.")}) {
    io::SafetensorsWriter w;
    io::add_weights(w, a, prefix);
    w.write(path);
    b = tiny(100);
    const auto report = io::load_weights(b, io::Safetensors::read(path), prefix);
    CHECK(report.complete());
    CHECK(report.loaded == names);
    CHECK(values(b.first.weight.value) == values(a.first.weight.value));
    CHECK(values(b.more[1].weight.value) == values(a.more[1].weight.value));
    CHECK(values(b.norm.running_var.value) == values(a.norm.running_var.value));
    CHECK(b.first.weight.value.shape() == Shape{3, 2});
  }
  // Tensors outside the prefix are nobody's business.
  const auto other = io::load_weights(b, io::Safetensors::read(path), "teacher.");
  CHECK(other.missing == names);
  CHECK(other.unexpected.empty());
}

TEST_CASE("a load reports what was loaded, missing, unexpected and mismatched") {
  const Folder f;
  const fs::path path = f.path / "w.safetensors";
  io::SafetensorsWriter w;
  w.add("first.weight", tensor<float, B>({1, 2, 3, 4, 5, 6}, {2, 3}));  // transposed
  w.add("first.bias", tensor<double, B>({0.5, 1.5, 2.5}, {3}));  // another float type is converted
  w.add("more.0.weight", tensor<float, B>({7, 8, 9}, {3}));      // a dimension short
  w.add("more.1.weight", Tensor<bfloat16, B>::from_host(
                             std::vector<bfloat16>{bfloat16(1.0f), bfloat16(-2.5f)}, {2, 1}));
  w.add("norm.weight", tensor<float, B>({1, 1}, {2}));
  w.add("norm.bias", tensor<float, B>({}, {0}));
  w.add("extra.weight", tensor<float, B>({1}, {1}));
  w.add("another", tensor<float, B>({1}, {}));
  w.write(path);
  Tiny m = tiny(1);
  const Values before = values(m.first.weight.value);
  const auto r = io::load_weights(m, io::Safetensors::read(path));
  CHECK(!r.complete());
  CHECK(r.loaded == std::vector<std::string>{"first.bias", "more.1.weight", "norm.weight"});
  CHECK(r.missing ==
        std::vector<std::string>{"more.0.bias", "norm.running_mean", "norm.running_var"});
  CHECK(r.unexpected == std::vector<std::string>{"another", "extra.weight"});
  REQUIRE(r.mismatched.size() == 3);
  CHECK_MESSAGE((holds(r.mismatched[0], "first.weight") && holds(r.mismatched[0], "(3, 2)") &&
                 holds(r.mismatched[0], "(2, 3)")),
                r.mismatched[0]);
  CHECK_MESSAGE((holds(r.mismatched[1], "more.0.weight") && holds(r.mismatched[1], "(1, 3)") &&
                 holds(r.mismatched[1], "(3)")),
                r.mismatched[1]);
  CHECK_MESSAGE((holds(r.mismatched[2], "norm.bias") && holds(r.mismatched[2], "(2)") &&
                 holds(r.mismatched[2], "(0)")),
                r.mismatched[2]);
  CHECK(values(m.first.weight.value) == before);  // a mismatch changes nothing
  CHECK(values(m.first.bias.value) == Values{0.5, 1.5, 2.5});
  CHECK(values(m.more[1].weight.value) == Values{1.0, -2.5});
}

TEST_CASE("a file's tensor of more dimensions than the library has is a mismatch") {
  const std::string header =
      "{\"first.bias\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,3],\"data_offsets\":[0,12]}}";
  Tiny m = tiny(1);
  const auto r = io::load_weights(m, io::Safetensors(bytes(file(header, 12)), "six"));
  REQUIRE(r.mismatched.size() == 1);
  CHECK(holds(r.mismatched[0], "first.bias"));
}

TEST_CASE(
    "weights are floats that are finite in the model's precision; everything else is refused by "
    "name") {
  const Folder f;
  const fs::path path = f.path / "w.safetensors";
  const auto written = [&](auto change) {
    io::SafetensorsWriter w;
    Tiny good = tiny(1);
    change(w, good);
    io::add_weights(w, good);
    w.write(path);
  };
  const auto load = [&] {
    Tiny m = tiny(2);
    const Values before = values(m.first.weight.value);
    const std::string e = error_of([&] { io::load_weights(m, io::Safetensors::read(path)); });
    if (e != "") CHECK(values(m.first.weight.value) == before);
    return e;
  };
  written([](auto&, Tiny&) {});
  CHECK(load() == "");
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    written([&](auto&, Tiny& m) { m.more[1].weight.value.data()[1] = bad; });
    const std::string e = load();
    CHECK_MESSAGE((holds(e, "'more.1.weight'") && holds(e, "element 1") && holds(e, path.string())),
                  e);
    written([&](auto&, Tiny& m) { m.norm.running_var.value.data()[0] = bad; });
    CHECK(holds(load(), "'norm.running_var'"));
  }
  // doubles: exact where a float holds them, refused beyond it
  const auto doubles = [&](double x) {
    io::SafetensorsWriter w;
    w.add("first.bias", tensor<double, B>({0.5, x, 2.5}, {3}));
    w.write(path);
  };
  doubles(1.5);
  CHECK(load() == "");
  doubles(1e300);
  CHECK(holds(load(), "'first.bias' holds 1e+300 at element 1"));
  // codes of quantised weights and truth values fit by name and shape, and are no weights
  const auto codes = [&](auto zero) {
    using T = decltype(zero);
    io::SafetensorsWriter w;
    w.add("first.bias", Tensor<T, B>::full({3}, T(1)));
    w.write(path);
    Tiny m = tiny(1);
    const auto r = io::load_weights(m, io::Safetensors::read(path));
    REQUIRE(r.mismatched.size() == 1);
    CHECK_MESSAGE(
        (holds(r.mismatched[0], "first.bias") && holds(r.mismatched[0], "expected floats")),
        r.mismatched[0]);
    CHECK(r.loaded.empty());
  };
  codes(std::int8_t{});
  codes(std::uint8_t{});
  codes(std::int32_t{});
  codes(std::int64_t{});
  codes(bool{});
}

TEST_CASE("tensors of any type that nobody needs are kept and reported, not fatal") {
  for (const auto& [type, bytes_each] : {std::pair{"U16", 2},
                                         {"U32", 4},
                                         {"U64", 8},
                                         {"F8_E4M3", 1},
                                         {"F8_E5M2", 1},
                                         {"C64", 8},
                                         {"F4", 1},
                                         {"I8", 1}}) {
    const std::string n = std::to_string(2 * bytes_each), end = std::to_string(2 * bytes_each + 12);
    const std::string header =
        std::string("{\"extra\":{\"dtype\":\"") + type + "\",\"shape\":[2],\"data_offsets\":[0," +
        n + "]},\"first.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[" + n + "," +
        end + "]}}";
    Tiny m = tiny(1);
    const auto r = io::load_weights(
        m, io::Safetensors(bytes(file(header, static_cast<std::size_t>(2 * bytes_each + 12))),
                           "file"));
    CHECK_MESSAGE(r.loaded == std::vector<std::string>{"first.bias"}, type);
    CHECK_MESSAGE(r.unexpected == std::vector<std::string>{"extra"}, type);
  }
  // one byte each: 2^-9 * 1 (the smallest), 1.5, -448 (the largest)
  const std::string e4m3 =
      file("{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}") +
      std::string("\x01\x3C\xFE\x7F", 4);
  const io::Safetensors parsed(bytes(e4m3), "file");
  const auto& x = parsed.at("x");
  CHECK(x.at(0) == 0.001953125);
  CHECK(x.at(1) == 1.5);
  CHECK(x.at(2) == -448);
  CHECK(std::isnan(x.at(3)));
}

TEST_CASE("a file of torch.save gets a hint") {
  for (const std::string& magic : {std::string("PK\x03\x04"), std::string("\x80\x02}q")}) {
    const std::string e =
        error_of([&] { io::Safetensors(bytes(magic + std::string(60, 'x')), "model.pt"); });
    CHECK_MESSAGE((holds(e, "model.pt") && holds(e, "torch.save") && holds(e, "save_file")), e);
  }
}

TEST_CASE("a checksum notices every flipped bit") {
  const Folder f;
  std::string text = "some words, 17 of them or so";
  for (std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8},
                             std::size_t{9}, text.size()}) {
    const auto good = bytes(text.substr(0, length));
    std::ofstream(f.path / "a", std::ios::binary) << text.substr(0, length);
    io::write_checksums(f.path);
    CHECK(error_of([&] { io::verify_checksum(f.path / "a", good); }) == "");
    for (std::size_t i = 0; i < 8 * length; ++i) {
      auto bad = good;
      bad[i / 8] ^= std::byte{1} << i % 8;
      CHECK(holds(error_of([&] { io::verify_checksum(f.path / "a", bad); }),
                  (f.path / "a").string()));
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    CHECK(error_of([&] { io::verify_checksum(f.path / "a", longer); }) != "");
    fs::remove(f.path / io::checksum_file);
    const std::vector<std::byte> nothing;  // a folder without checksums passes
    CHECK(error_of([&] { io::verify_checksum(f.path / "a", nothing); }) == "");
  }
}
