// Initial values and decay stand with the parameter: the model's are those of the method (2.6), a
// wrapper's name changes nothing, and a vector of one's own begins as it says.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>

#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"

using namespace hybridmed;

namespace {

using B = CpuBackend;
using P = Parameter<float, B>;

/// The reference's rule, by name (tests/reference/hybridmed_torch.py, `initialise`).
Initial expected(const std::string& name, const Shape& s, const model::Config& c) {
  const auto ends = [&](std::string_view end) { return name.ends_with(end); };
  if (name == "log_scale") return init::constant(c.log_scale_init);
  if (ends(".bias")) return init::zeros();
  if (s.rank() == 1) return ends(".cls") ? init::normal(0.02) : init::ones();
  if (s.rank() == 4 && c.encoder == "resnet")
    return init::normal(std::sqrt(2.0 / static_cast<double>(s[0] * s[2] * s[3])));
  if (ends(".pos") || ends(".level_embed")) return init::normal(0.01);
  if (name.find(".blocks.") == name.npos || ends(".rel_bias")) return init::normal(0.02);
  const double in = static_cast<double>(s[1]), out = static_cast<double>(s[0]);
  if (ends("qkv.weight") || ends(".q.weight") || ends(".kv.weight"))
    return init::normal(std::pow(in, -0.5));
  if (ends("fc1.weight")) return init::normal(std::pow(2 * in, -0.5));
  std::map<std::string, Index> depth{{"text", c.uni_blocks}, {"decoder", c.dec_blocks}};
  depth["image"] = c.encoder == "vit"
                       ? c.image_depth
                       : c.swin_depths[0] + c.swin_depths[1] + c.swin_depths[2] + c.swin_depths[3];
  return init::normal(
      std::pow(out, -0.5) *
      std::pow(2 * static_cast<double>(depth.at(name.substr(0, name.find('.')))), -0.5));
}

/// A part of a user's own, around one of the library's.
struct Wrapper {
  model::AnyEncoder<float, B> inside;
  P scale{{5}, init::normal(0.3)}, offset{{5}, init::constant(-2)};
  template <class F>
  void visit(F&& f) {
    f("backbone", inside);
    f("scale", scale);
    f("offset", offset);
  }
};

}  // namespace

TEST_CASE("the model's parameters begin, and decay, as the reference's") {
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    const auto c = model::Config::preset(preset);
    auto m = model::make_hybridmed<float, B>(c);
    system::Composed composed(m, system::HybridMed::alignment(c));  // with log_scale
    std::size_t temperatures = 0;
    nn::for_each_parameter(composed, [&](const std::string& name, P& p) {
      CAPTURE(preset);
      CAPTURE(name);
      temperatures += name == "log_scale";
      const Initial want = expected(name, p.value.shape(), c);
      CHECK(p.initial.kind == want.kind);
      CHECK(p.initial.value == doctest::Approx(want.value).epsilon(1e-14));
      const bool kept = name.ends_with(".pos") || name.ends_with(".level_embed") ||
                        name.ends_with(".rel_bias") || p.value.shape().rank() < 2;
      CHECK(p.decays == !kept);
    });
    CHECK(temperatures == 1);
  }
}

TEST_CASE("what is drawn has the standard deviation that the parameter names") {
  const auto c = model::Config::preset("tiny");
  auto m = model::make_hybridmed<float, B>(c);
  system::Composed composed(m, system::HybridMed::alignment(c));
  nn::initialise(composed, 3);
  nn::for_each_parameter(composed, [&](const std::string& name, P& p) {
    CAPTURE(name);
    double square = 0;
    for (const float x : p.value.to_host()) square += static_cast<double>(x) * x;
    const double n = static_cast<double>(p.value.size()), rms = std::sqrt(square / n);
    CHECK(rms == doctest::Approx(std::abs(p.initial.value)).epsilon(4 / std::sqrt(2 * n) + 1e-6));
  });
}

TEST_CASE("a wrapper's name changes no initial value; vectors of one's own begin as they say") {
  const auto c = model::Config::preset("tiny");
  Wrapper w{model::make_encoder<float, B>(c)};
  auto alone = model::make_encoder<float, B>(c);
  nn::initialise(w, 1);
  nn::initialise(alone, 1);
  std::map<std::string, std::vector<float>> values;
  nn::for_each_parameter(alone, [&](const std::string& name, P& p) {
    values["backbone." + name] = p.value.to_host();
  });
  nn::for_each_parameter(w, [&](const std::string& name, P& p) {
    CAPTURE(name);
    if (name.starts_with("backbone.")) CHECK(p.value.to_host() == values.at(name));
  });
  CHECK(w.offset.value.to_host() == std::vector<float>(5, -2));
  for (const float x : w.scale.value.to_host()) CHECK(std::abs(x) < 1.5f);
  CHECK(w.scale.value.to_host() != std::vector<float>(5, 1));
}

namespace {
template <class T, class B>
struct Directions {
  Parameter<T, B> rows{{40, 7}, init::unit_rows()}, one{{1, 1}, init::unit_rows()};
  template <class F>
  void visit(F&& f) {
    f("rows", rows);
    f("one", one);
  }
};

template <class T, class B>
void check_unit_rows(double tolerance) {
  Directions<T, B> a, again, other;
  for (const T x : a.rows.value.to_host()) CHECK(x == 0);  // until they are drawn
  nn::initialise(a, 5);
  nn::initialise(again, 5);
  nn::initialise(other, 6);
  const auto x = a.rows.value.to_host();
  CHECK(again.rows.value.to_host() == x);
  CHECK(other.rows.value.to_host() != x);
  CHECK(std::abs(std::abs(static_cast<double>(a.one.value.item())) - 1) <= tolerance);
  std::vector<double> mean(7, 0.0);
  for (std::size_t r = 0; r < 40; ++r) {
    CAPTURE(r);
    double square = 0;
    for (std::size_t c = 0; c < 7; ++c) {
      const double v = static_cast<double>(x[7 * r + c]);
      square += v * v;
      mean[c] += v / 40;
    }
    CHECK(std::abs(std::sqrt(square) - 1) <= tolerance);
    for (std::size_t s = 0; s < r; ++s) {  // of random directions, no two are nearly one
      double cosine = 0;
      for (std::size_t c = 0; c < 7; ++c)
        cosine += static_cast<double>(x[7 * r + c]) * static_cast<double>(x[7 * s + c]);
      CHECK(cosine < 0.999);
    }
  }
  // A coordinate of a random direction in 7 dimensions has variance 1/7: four standard errors.
  for (const double m : mean) CHECK(std::abs(m) < 4 / std::sqrt(7.0 * 40));
}
}  // namespace

TEST_CASE("unit_rows: rows of length 1 in random directions, by the seed") {
  check_unit_rows<float, CpuBackend>(1e-6);
  check_unit_rows<double, CpuBackend>(1e-14);
  check_unit_rows<float, Reference>(1e-6);
  check_unit_rows<double, Reference>(1e-14);
}

TEST_CASE("a copied parameter begins and decays as the first, and is as fixed") {
  P a({2, 3}, init::normal(0.5), no_decay);
  CHECK_FALSE(a.fixed);
  a.fixed = true;
  a.trainable = false;
  const P b = a;
  CHECK(b.fixed);
  CHECK_FALSE(b.trainable);
  P assigned;
  assigned = a;
  CHECK(assigned.fixed);
  const P rows({2, 3}, init::unit_rows()), same = rows;
  CHECK(same.initial.kind == Initial::Kind::unit_rows);
  CHECK(same.decays);
  CHECK(b.initial.kind == Initial::Kind::normal);
  CHECK(b.initial.value == 0.5);
  CHECK_FALSE(b.decays);
}
