// Parameters that an objective owns: visited, saved, decayed and trained like a model's, kept where
// they may be, fixed where it says so; names that clash are refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "../support.hpp"
#include "errors.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/io/weights.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/objective/alignment/prototype.hpp"
#include "hybridmed/objective/alignment/sigmoid.hpp"
#include "hybridmed/objective/generation/impression.hpp"
#include "hybridmed/system/convirt.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using objective::InfoNce;
using objective::Temperature;
using representation::ImageGlobal;
using representation::ImpressionGlobal;

namespace {

using T = double;
using B = CpuBackend;
using X = Tensor<T, B>;
using V = Variable<T, B>;
using Model = model::HybridMed<T, B, model::Vit<T, B>>;
using P = Parameter<T, B>;

constexpr objective::Needs<ImageGlobal, ImpressionGlobal> global{};

/// Squares of (the images' vectors times a matrix of its own, plus a number of its own).
struct Regression {
  Index width;
  const char* matrix = "regression.weight";

  static constexpr std::string_view name = "regression";
  static constexpr objective::Needs<ImageGlobal> needs{};

  template <class S, class K>
  struct State {
    Parameter<S, K> weight, offset;
    const char* matrix;
    explicit State(const Regression& o)
        : weight({3, o.width}, init::normal(0.1)),
          offset(Shape{}, init::constant(0.5)),
          matrix(o.matrix) {}
    template <class F>
    void visit(F&& f) {
      f(matrix, weight);
      f("regression.offset", offset);
    }
  };

  template <Value W, class N>
  W operator()(const objective::Representations<W, N>& r,
               const State<scalar_of<W>, backend_of<W>>& state) const {
    const W y =
        add(linear(get<ImageGlobal>(r).projected, use<W>(state.weight)), use<W>(state.offset));
    return mean(multiply(y, y));
  }
};

Model make() {
  const auto c = model::Config::preset("tiny");
  return Model(c, model::Vit<T, B>(c.vit()), global);
}
model::Batch<T, B> batch_of(const Model& m) {
  const std::vector<std::int32_t> impression{1, 20, 2, 1, 30, 31, 2, 1, 32, 2}, at{0, 3, 7, 10},
      none{0, 0, 0, 0};
  return {tensor<T, B>(normal(3 * 3 * 64 * 64, 5, 0.5), {3, 3, 64, 64}),
          m.plan({{}, none}, {impression, at}, {})};
}
template <class M>
std::vector<std::string> names(M& module) {
  std::vector<std::string> all;
  nn::for_each_parameter(module, [&](const std::string& name, auto&) { all.push_back(name); });
  return all;
}
template <class M>
std::map<std::string, Values> state(M& module) {
  std::map<std::string, Values> all;
  nn::for_each_parameter(module,
                         [&](const std::string& name, auto& p) { all[name] = values(p.value); });
  return all;
}
template <class C>
auto step(C& composed, optim::AdamW<T, B>& optimizer, double rate = 1e-2) {
  Tape tape;
  return train::train_step(composed, batch_of(composed.model()), optimizer, rate, tape,
                           nn::Mode::training());
}
template <class C>
double loss_of(const C& composed, const model::Batch<T, B>& batch) {
  return train::evaluate_step(composed, batch, nn::Mode::evaluation()).total;
}

}  // namespace

TEST_CASE("an objective's parameters are visited in the order of the terms, before the model's") {
  Model m = make();
  const Index d = m.config.d_e;
  system::Composed composed(
      m, 0.5 * Regression{d} + InfoNce{} +
             objective::observe(objective::PrototypeAlignment{.prototypes = 4, .width = d}));
  std::vector<std::string> want{"regression.weight", "regression.offset", "log_scale",
                                "prototypes"};
  CHECK(names(composed.states()) == want);
  for (const std::string& name : names(m)) want.push_back(name);
  CHECK(names(composed) == want);
  CHECK(nn::count_parameters(composed) == 3 * d + 1 + 1 + 4 * d + nn::count_parameters(m));
  CHECK(std::get<0>(composed.states().each).offset.value.item() == 0.5);
  CHECK(std::get<1>(composed.states().each).log_scale.value.item() ==
        doctest::Approx(std::log(1 / 0.07)).epsilon(1e-15));

  nn::initialise(composed, 3);
  const Values drawn = values(std::get<0>(composed.states().each).weight.value);
  double square = 0;
  for (const double x : drawn) square += x * x;
  const double n = static_cast<double>(drawn.size());
  CHECK(std::sqrt(square / n) == doctest::Approx(0.1).epsilon(4 / std::sqrt(2 * n)));
  CHECK(std::get<0>(composed.states().each).offset.value.item() == 0.5);

  const auto without = 1.0 * objective::Captioning{};  // no parameters, and nothing in their place
  objective::States<T, B, std::remove_cvref_t<decltype(without)>> none(without);
  CHECK(names(none).empty());
}

TEST_CASE("they are saved by name, and come back") {
  Model m = make(), other = make();
  const auto objective = 1.0 * Regression{m.config.d_e} + InfoNce{};
  system::Composed composed(m, objective), again(other, objective);
  nn::initialise(composed, 3);
  nn::initialise(again, 4);
  std::get<1>(composed.states().each).log_scale.value = tensor<T, B>({1.25}, {});
  REQUIRE(state(again) != state(composed));
  const ScratchFolder folder;
  const auto file = folder.path / "model.safetensors";
  io::SafetensorsWriter writer;
  io::add_weights(writer, composed);
  writer.write(file);
  const auto stored = io::Safetensors::read(file);
  CHECK(stored.tensors().size() == names(composed).size());
  for (const char* name : {"regression.weight", "regression.offset", "log_scale"})
    CHECK(stored.find(name) != nullptr);
  CHECK(stored.find("log_scale")->shape.empty());
  CHECK(stored.find("log_scale")->at(0) == 1.25);
  CHECK(io::load_weights(again, stored).complete());
  CHECK(state(again) == state(composed));
  CHECK(loss_of(again, batch_of(m)) == loss_of(composed, batch_of(m)));

  // A model alone leaves them aside; an objective that has none of its own misses nothing.
  const auto alone = io::load_weights(other, stored);
  CHECK(alone.missing.empty());
  CHECK(alone.unexpected.size() == 3);
  system::Composed more(other, objective + objective::PrototypeAlignment{4, m.config.d_e});
  CHECK(io::load_weights(more, stored).missing == std::vector<std::string>{"prototypes"});
}

TEST_CASE("they decay like a model's: a matrix does, a scalar does not") {
  Model m = make();
  // The first term is left out, so that its parameters have no gradient: what moves them is decay.
  system::Composed composed(m, 0.0 * Regression{m.config.d_e} + 1.0 * InfoNce{});
  nn::initialise(composed, 3);
  optim::AdamW<T, B> optimizer(composed, {});
  REQUIRE(optimizer.entries().size() == names(composed).size());
  const std::map<std::string, bool> decays{
      {"regression.weight", true}, {"regression.offset", false}, {"log_scale", false}};
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(optimizer.entries()[i].parameter->decays == decays.at(optimizer.entries()[i].name));
  const auto before = state(composed);
  const double rate = 0.1, decay = optim::AdamWOptions{}.weight_decay;
  const auto report = step(composed, optimizer, rate);
  CHECK(std::isnan(report.losses[0].value.item()));
  const auto after = state(composed);
  Values want = before.at("regression.weight");
  for (double& x : want) x *= 1 - rate * decay;
  CHECK(difference(after.at("regression.weight"), want) <= 1e-15);
  CHECK(after.at("regression.offset") == before.at("regression.offset"));
  // Adam's first step is the rate against the sign of the gradient, and no decay is added to it.
  CHECK(std::abs(std::abs(after.at("log_scale")[0] - before.at("log_scale")[0]) - rate) <= 1e-5);
}

TEST_CASE("a step trains them, by the gradient of the loss") {
  Model m = make();
  system::Composed composed(m, 2.0 * Regression{m.config.d_e});
  nn::initialise(composed, 3);
  auto& own = std::get<0>(composed.states().each);
  const auto batch = batch_of(m);
  {
    Tape tape;
    RecordOn on(tape);
    decltype(composed)::Losses losses;
    backward(composed.total<V>(batch, nn::Mode::evaluation(), losses));
  }
  const Values dw = gradient(own.weight), db = gradient(own.offset);
  const auto slope = [&](P& p, std::size_t i) {
    const Values x = values(p.value);
    const double h = 1e-5;
    double sides[2];
    for (const int side : {0, 1}) {
      Values moved = x;
      moved[i] += side ? h : -h;
      p.value = tensor<T, B>(moved, p.value.shape());
      sides[side] = loss_of(composed, batch);
    }
    p.value = tensor<T, B>(x, p.value.shape());
    return (sides[1] - sides[0]) / (2 * h);
  };
  for (const std::size_t i : {std::size_t{0}, std::size_t{7}, dw.size() - 1})
    CHECK(std::abs(slope(own.weight, i) - dw[i]) <= 1e-8);
  CHECK(std::abs(slope(own.offset, 0) - db[0]) <= 1e-8);
  CHECK(std::abs(db[0]) > 0.1);

  nn::for_each_parameter(composed, [](const std::string&, P& p) { p.slot.grad = {}; });
  optim::AdamW<T, B> optimizer(composed, {});
  const auto before = state(composed);
  const double first = loss_of(composed, batch);
  CHECK(state(composed) == before);  // an evaluation moves nothing
  for (int k = 0; k < 3; ++k) {
    const auto report = step(composed, optimizer);
    CHECK(report.losses[0].name == "regression");
    CHECK(report.total == doctest::Approx(2 * report.losses[0].value.item()).epsilon(1e-14));
  }
  CHECK(loss_of(composed, batch) < first);
  const auto after = state(composed);
  for (const char* name : {"regression.weight", "regression.offset", "proj.image_global.weight"})
    CHECK(difference(after.at(name), before.at(name)) > 1e-3);
}

TEST_CASE("an observed term is computed with its parameters and does not train them") {
  Model m = make();
  system::Composed composed(m, objective::observe(Regression{m.config.d_e}) + InfoNce{});
  nn::initialise(composed, 3);
  auto& own = std::get<0>(composed.states().each);
  own.weight.value = X::zeros(own.weight.value.shape());
  optim::AdamW<T, B> optimizer(composed, {});
  const auto report = step(composed, optimizer);
  CHECK(report.losses[0].value.item() == doctest::Approx(0.25));  // of the offset alone
  CHECK(report.total == report.losses[1].value.item());
  CHECK(own.offset.value.item() == 0.5);
  CHECK(largest(values(own.weight.value)) == 0);
}

TEST_CASE("two parameters of one name are refused with a sentence") {
  Model m = make();
  const Index d = m.config.d_e;
  const auto refused = [&](const auto& objective) {
    return error_of([&] { system::Composed composed(m, objective); });
  };
  CHECK(refused(1.0 * InfoNce{} + Regression{d}) == "");
  const std::string twice = refused(InfoNce{} + 0.5 * InfoNce{0.1});
  CHECK_MESSAGE(twice.starts_with("[hybridmed.system] Composed: "), twice);
  CHECK_MESSAGE(holds(twice, "two parameters are called 'log_scale'"), twice);
  CHECK_MESSAGE(holds(twice, "two terms of the objective, or a term and the model"), twice);
  CHECK(refused(InfoNce{} + 0.0 * InfoNce{}) == twice);  // left out or not
  CHECK(refused(InfoNce{} + objective::SigmoidContrast{}) == twice);
  const std::string model = refused(1.0 * Regression{d, "text.token_embed"});
  CHECK_MESSAGE(holds(model, "two parameters are called 'text.token_embed'"), model);
}

TEST_CASE("a temperature that is fixed stays where it is, whatever is trained") {
  Model m = make();
  for (const double temperature :
       {0.1, 0.001}) {  // the second is beyond the clamp of a learned one
    CAPTURE(temperature);
    InfoNce contrast;
    contrast.temperature = Temperature::fixed(temperature);
    system::Composed composed(m, 1.0 * contrast);
    nn::initialise(composed, 3);
    auto& log_scale = std::get<0>(composed.states().each).log_scale;
    CHECK(log_scale.fixed);
    CHECK_FALSE(log_scale.trainable);
    const double start = log_scale.value.item();
    CHECK(start == doctest::Approx(-std::log(temperature)).epsilon(1e-15));
    optim::AdamW<T, B> optimizer(composed, {});
    CHECK(optimizer.entries().size() == names(composed).size() - 1);
    for (const auto& e : optimizer.entries()) CHECK(e.name != "log_scale");
    const auto before = state(composed);
    for (int k = 0; k < 2; ++k) {
      const auto report = step(composed, optimizer);
      CHECK(report.finite);
      CHECK(report.gradient_norm > 0);
    }
    CHECK(log_scale.value.item() == start);
    CHECK_FALSE(log_scale.slot.grad.defined());
    CHECK(difference(values(m.proj.text_global.weight.value),
                     before.at("proj.text_global.weight")) > 1e-3);
  }
  // A learned one is not.
  system::Composed learned(m, 1.0 * InfoNce{});
  nn::initialise(learned, 3);
  auto& log_scale = std::get<0>(learned.states().each).log_scale;
  CHECK_FALSE(log_scale.fixed);
  optim::AdamW<T, B> optimizer(learned, {});
  const double start = log_scale.value.item();
  step(learned, optimizer);
  CHECK(log_scale.value.item() != start);
}

TEST_CASE("a system that chooses what a stage trains leaves a fixed parameter out") {
  auto c = model::Config::preset("tiny");
  system::SystemOf<system::ConVirt, T, B> s(c);
  nn::initialise(s, 3);
  s.begin_stage(0);
  std::size_t fixed = 0;
  nn::for_each_parameter(s, [&](const std::string& name, P& p) {
    CAPTURE(name);
    CHECK(p.trainable == (name != "log_scale"));
    fixed += p.fixed;
  });
  CHECK(fixed == 1);
  optim::AdamW<T, B> optimizer(s, {});
  CHECK(optimizer.entries().size() == names(s).size() - 1);
  const auto before = state(s);
  system::StageOf<T, B> stage(s, 0);
  const Model planner = make();
  Tape tape;
  const auto report =
      train::train_step(stage, batch_of(planner), optimizer, 1e-2, tape, nn::Mode::training());
  CHECK(report.finite);
  const auto after = state(s);
  CHECK(after.at("log_scale") == before.at("log_scale"));
  CHECK(after.at("log_scale")[0] == doctest::Approx(std::log(10.0)).epsilon(1e-14));
  CHECK(difference(after.at("proj.image_global.weight"), before.at("proj.image_global.weight")) >
        1e-3);
}

TEST_CASE("prototypes keep length 1, and wait as many epochs as they say") {
  Model m = make();
  const Index d = m.config.d_e;
  system::Composed composed(
      m, 1.0 * objective::PrototypeAlignment{.prototypes = 6, .width = d, .waiting_epochs = 2});
  nn::initialise(composed, 3);
  auto& prototypes = std::get<0>(composed.states().each).prototypes;
  const auto lengths_are_1 = [&] {
    const Values x = values(prototypes.value);
    REQUIRE(static_cast<Index>(x.size()) == 6 * d);
    for (Index r = 0; r < 6; ++r) {
      double square = 0;
      for (const double y : rows_of(x, d, r, r + 1)) square += y * y;
      CHECK(std::abs(std::sqrt(square) - 1) <= 1e-14);
    }
  };
  lengths_are_1();
  optim::AdamW<T, B> optimizer(composed, {});  // made while every parameter is trainable
  Values before = values(prototypes.value);
  for (const Index epoch : {0, 1}) {
    composed.begin_epoch(epoch);
    for (int k = 0; k < 2; ++k) CHECK(step(composed, optimizer).finite);
    CHECK(difference(values(prototypes.value), before) <= 1e-15);
  }
  composed.begin_epoch(2);
  CHECK(step(composed, optimizer).finite);
  CHECK(difference(values(prototypes.value), before) > 1e-3);
  lengths_are_1();
}

TEST_CASE("the scale and bias of the sigmoid loss are learned and not clamped") {
  Model m = make();
  system::Composed composed(m, 1.0 * objective::SigmoidContrast{});
  nn::initialise(composed, 3);
  auto& own = std::get<0>(composed.states().each);
  CHECK(own.log_scale.value.item() == doctest::Approx(std::log(10.0)).epsilon(1e-15));
  CHECK(own.bias.value.item() == -10);
  optim::AdamW<T, B> optimizer(composed, {});
  own.log_scale.value = tensor<T, B>({6}, {});
  step(composed, optimizer);
  CHECK(own.log_scale.value.item() != 6);
  CHECK(std::abs(own.log_scale.value.item() - 6) < 0.1);
  CHECK(own.bias.value.item() != -10);
}

TEST_CASE("a copy of what is trained has parameters of its own and the same model") {
  Model m = make();
  system::Composed composed(m, 1.0 * InfoNce{});
  nn::initialise(composed, 3);
  auto copy = composed;
  CHECK(&copy.model() == &m);
  auto& mine = std::get<0>(composed.states().each).log_scale;
  auto& its = std::get<0>(copy.states().each).log_scale;
  const double start = mine.value.item();
  CHECK(its.value.item() == start);
  optim::AdamW<T, B> optimizer(composed, {});
  step(composed, optimizer);
  CHECK(mine.value.item() != start);
  CHECK(its.value.item() == start);
}

TEST_CASE("a loss that is not a number changes no parameter of the objective") {
  Model m = make();
  system::Composed composed(m, 1.0 * Regression{m.config.d_e} + InfoNce{});
  nn::initialise(composed, 3);
  auto& own = std::get<0>(composed.states().each);
  optim::AdamW<T, B> optimizer(composed, {});
  own.offset.value = tensor<T, B>({std::numeric_limits<double>::quiet_NaN()}, {});
  const auto before = state(composed);
  const auto report = step(composed, optimizer);
  CHECK_FALSE(report.finite);
  for (const auto& [name, now] : state(composed)) {
    CAPTURE(name);
    if (name == "regression.offset")
      CHECK(std::isnan(now[0]));
    else
      CHECK(now == before.at(name));
  }
  own.offset.value = tensor<T, B>({0.5}, {});
  CHECK(step(composed, optimizer).finite);  // and the next step is as good as the first
}

namespace {
/// One matrix at both ends.
struct Tied {
  Parameter<T, B> w{{2, 2}, init::ones()};
  template <class F>
  void visit(F&& f) {
    f("in", w);
    f("out", w);
  }
};
}  // namespace

TEST_CASE(
    "an optimizer that does not hold what the loss depends on is an error, not a standstill") {
  Model m = make();
  const auto objective = 1.0 * Regression{m.config.d_e};
  system::Composed composed(m, objective);
  Model copy = m.clone();
  system::Composed other(copy, objective);
  const auto before = state(composed);
  const auto refused = [&](optim::AdamW<T, B>&& optimizer) {
    return error_of([&] { step(composed, optimizer); }).find("is not in this optimizer") !=
           std::string::npos;
  };
  CHECK(refused(optim::AdamW<T, B>(other, {})));  // of a copy
  CHECK(refused(optim::AdamW<T, B>(m, {})));      // of the model alone
  CHECK(state(composed) == before);
  optim::AdamW<T, B> right(composed, {});
  CHECK(step(composed, right).finite);
  CHECK(state(composed) != before);

  Tied tied;
  CHECK(error_of([&] { optim::AdamW<T, B>(tied, {}); }).find("'out' stands in the model") !=
        std::string::npos);
}
