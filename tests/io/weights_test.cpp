// Weights of a module in a file: what a load takes, reports and refuses.
#include <doctest/doctest.h>

#include <cmath>

#include "hybridmed/io/weights.hpp"
#include "hybridmed/nn/layers.hpp"
#include "io.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using B = Reference;
namespace fs = std::filesystem;

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
  const ScratchFolder f;
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
  const ScratchFolder f;
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
  const ScratchFolder f;
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
