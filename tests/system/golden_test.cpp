// Every sibling system against its composition in PyTorch (tests/reference/systems_torch.py):
// losses, every gradient, and the weights after three steps, in double.
#include <doctest/doctest.h>

#include "../parity/golden_set.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::golden;

namespace {

using T = double;

template <class B>
std::vector<double> entries_of(const Tensor<T, B>& t) {
  std::vector<double> out;
  for (T x : t.to_host()) out.push_back(static_cast<double>(x));
  return out;
}

/// Largest error of what a set stores of one tensor, its sum and its length, relative to the
/// tensor's largest entry.
template <class B>
double error_in(const io::Safetensors& set, const std::string& name, const Tensor<T, B>& mine) {
  const std::vector<double> all = entries_of(mine);
  const Stored want = stored(set, name);
  const Mine picked = every({all, {}}, want.stride);
  REQUIRE(want.data.size() == picked.data.size());
  REQUIRE_FALSE(metadata(set, "sum:" + name).empty());
  return std::max(error_of(want.data, picked, true), summary_error(set, name, all));
}

template <class B>
struct Sibling {
  std::filesystem::path dir, base;
  GoldenSet set;
  io::Json json, expected;
  std::unique_ptr<system::System<T, B>> system;

  explicit Sibling(const std::string& name)
      : dir(std::filesystem::path(HYBRIDMED_REFERENCE) / "golden" / "systems" / name),
        base(std::filesystem::path(HYBRIDMED_REFERENCE) / "golden" / "tiny"),
        set(base),
        json(io::read_json(dir / "config.json")),
        expected(io::read_json(dir / "losses.json")) {
    model::Config config = set.config;
    // The set's own weights and smoothing are HybridMED's; the siblings' are the published ones.
    const model::Config usual;
    for (double model::Config::*key :
         {&model::Config::lambda_cg, &model::Config::lambda_cl, &model::Config::lambda_cap,
          &model::Config::label_smoothing_cg, &model::Config::label_smoothing_gen})
      config.*key = usual.*key;
    config.dedup_targets = usual.dedup_targets;
    if (json.at("K").get<Index>() > 0) config.prototypes = json.at("K").get<Index>();
    system = system::make_system<T, B>(name, config);
    load_all(*system, {base / "weights.safetensors", dir / "weights.safetensors"});
    system->begin_stage(0);
    system->begin_epoch(0, 1);  // past the epoch in which prototypes wait
  }
  model::Batch<T, B> batch() const {
    return {set.image<T, B>(), system->plan(set.findings.view(), set.impression.view(), set.keys)};
  }
  optim::AdamW<T, B> optimizer() {
    const auto& a = json.at("adamw");
    const auto number = [&](const char* key) { return a.at(key).template get<double>(); };
    return {
        *system,
        {number("beta1"), number("beta2"), number("eps"), number("weight_decay"), number("clip")}};
  }
  void check_losses(const objective::Losses<T, B>& losses, double total,
                    const io::Json& want) const {
    REQUIRE(losses.size() == json.at("losses").size());
    for (std::size_t i = 0; i < losses.size(); ++i) {
      const std::string name(losses[i].name);
      CHECK(json.at("losses")[i] == name);
      CHECK(std::abs(losses[i].value.item() / want.at(name).template get<double>() - 1) <= 1e-9);
    }
    CHECK(std::abs(total / want.at("total").template get<double>() - 1) <= 1e-9);
  }
};

template <class B>
void check_sibling(const std::string& name) {
  CAPTURE(name);
  Sibling<B> s(name);
  std::set<std::string> parameters;
  nn::for_each_parameter(*s.system,
                         [&](const std::string& n, Parameter<T, B>&) { parameters.insert(n); });
  std::set<std::string> wanted;
  for (const auto& n : s.json.at("parameters")) wanted.insert(n.template get<std::string>());
  CHECK(parameters == wanted);
  std::set<std::string> decaying;
  nn::for_each_parameter(*s.system, [&](const std::string& n, Parameter<T, B>& p) {
    if (!p.decays) decaying.insert(n);
  });
  std::set<std::string> no_decay;
  for (const auto& n : s.json.at("no_decay")) no_decay.insert(n.template get<std::string>());
  CHECK(decaying == no_decay);

  Tape tape;
  {
    RecordOn on(tape);
    objective::Losses<T, B> losses;
    const auto total = s.system->recorded_total(0, s.batch(), nn::Mode::inspection(), losses);
    s.check_losses(losses, value(total).item(), s.expected.at("updates")[0]);
    backward(total);
  }
  const auto gradients = io::Safetensors::read(s.dir / "grads.safetensors");
  nn::for_each_parameter(*s.system, [&](const std::string& n, Parameter<T, B>& p) {
    CAPTURE(n);
    const auto g = p.slot.grad.defined() ? p.slot.grad : Tensor<T, B>::zeros(p.value.shape());
    CHECK(error_in(gradients, n, g) <= 1e-9);
    p.slot.grad = {};
  });

  auto optimizer = s.optimizer();
  system::StageOf<T, B> view(*s.system, 0);
  for (const auto& want : s.expected.at("updates")) {
    const auto r =
        train::train_step(view, s.batch(), optimizer, s.expected.at("lr").template get<double>(),
                          tape, nn::Mode::training());
    s.check_losses(r.losses, r.total, want);
    CHECK(std::abs(r.gradient_norm / want.at("grad_norm").template get<double>() - 1) <= 1e-9);
  }
  const auto r = train::evaluate_step(view, s.batch(), nn::Mode::evaluation());
  s.check_losses(r.losses, r.total, s.expected.at("final"));
  const auto after = io::Safetensors::read(s.dir / "after_3_steps.safetensors");
  nn::for_each_parameter(*s.system, [&](const std::string& n, Parameter<T, B>& p) {
    CAPTURE(n);
    CHECK(error_in(after, n, p.value) <= 1e-9);
  });
}

}  // namespace

TEST_CASE_TEMPLATE("systems equal their compositions in PyTorch", B, Reference, CpuBackend) {
  for (const char* name : {"clip", "siglip", "convirt", "gloria", "coca", "mgca"})
    check_sibling<B>(name);
}

TEST_CASE("a system of another name is refused, and the names are listed") {
  CHECK_THROWS_WITH_AS((system::make_system<T, Reference>("clop", model::Config::preset("tiny"))),
                       doctest::Contains("expected hybridmed, clip, siglip, convirt, gloria, mgca "
                                         "or coca, got 'clop'"),
                       Error);
}
