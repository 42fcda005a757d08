// Weights and optimizer moments of another shape.
#include "hybridmed/nn/layers.hpp"
#include "hybridmed/train/checkpoint.hpp"
#include "readers.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using B = Reference;

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
