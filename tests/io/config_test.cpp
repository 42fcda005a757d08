// Configurations: keys, types and ranges, and values given one by one.
#include <doctest/doctest.h>

#include <array>

#include "hybridmed/io/config.hpp"
#include "io.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

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
