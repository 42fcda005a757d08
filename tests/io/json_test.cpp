// JSON: strict, limited in depth, with errors that name the source.
#include <doctest/doctest.h>

#include "hybridmed/io/json.hpp"
#include "io.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
namespace fs = std::filesystem;

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
