// The doors of a model: shapes against the configuration and the plan, sections, copies, terms of
// weight 0, the teacher.
#include <doctest/doctest.h>

#include <numeric>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/model/siblings.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// The CPU backend, counting kernels.
struct Counting : CpuBackend {
  static constexpr const char* name = "counting";
  static inline int attentions = 0, local = 0;
  template <class T>
  static void attention(const AttentionArgs<T>& a) {
    ++attentions;
    CpuBackend::attention(a);
  }
  template <class T>
  static void local_scores(const LocalArgs<T>& a, T* z) {
    ++local;
    CpuBackend::local_scores(a, z);
  }
};

using T = float;
using B = Counting;

/// Reads the text vector, and does not say so.
struct Forgetful {
  static constexpr std::string_view name = "forgetful";
  static constexpr unsigned needs = objective::image_global;
  template <Value V>
  V operator()(const objective::Representations<V>& r) const {
    return symmetric_cross_entropy(linear(normalize_rows(r.image), normalize_rows(r.text)), {}, 0,
                                   0.5, 0.5);
  }
};

const std::vector<std::int32_t> findings{1, 7, 8, 9, 2, 1, 7, 5, 2}, f_offsets{0, 5, 9},
    impression{1, 20, 2, 1, 30, 31, 2}, i_offsets{0, 3, 7};

Tensor<T, B> images(Index batch, Index channels, Index side) {
  Tensor<T, B> x({batch, channels, side, side});
  B::fill_normal(x.size(), Philox(3), 0.5, x.data());
  return x;
}

template <class M>
model::Batch<T, B> batch_of(const M& m, Tensor<T, B> x) {
  return {std::move(x), m.plan({findings, f_offsets}, {impression, i_offsets}, {})};
}

template <class M>
std::vector<T> weights(M& m) {
  std::vector<T> all;
  nn::for_each_parameter(m, [&](const std::string&, auto& p) {
    const auto v = p.value.to_host();
    all.insert(all.end(), v.begin(), v.end());
  });
  return all;
}

}  // namespace

TEST_CASE(
    "images of another size, channel count or batch than the model and the plan expect are "
    "refused") {
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    auto m = model::make_hybridmed<T, B>(model::Config::preset(preset));
    nn::initialise(m, 1);
    const auto objective =
        1.0 * objective::LocalAlignment{} + objective::Captioning{} + objective::InfoNce{};
    const auto run = [&](Tensor<T, B> x) {
      return error_of([&] {
        train::evaluate_step(m, objective, batch_of(m, std::move(x)), nullptr,
                             nn::Mode::evaluation());
      });
    };
    INFO(preset);
    CHECK(run(images(2, 3, 64)) == "");
    for (const auto& [n, channels, side] : {std::tuple<Index, Index, Index>{2, 3, 128},
                                            {2, 3, 32},
                                            {2, 3, 72},
                                            {2, 1, 64},
                                            {2, 4, 64},
                                            {3, 3, 64},
                                            {1, 3, 64}}) {
      const std::string e = run(images(n, channels, side));
      CHECK_MESSAGE(e.starts_with("[hybridmed.model]"), preset, " ", n, " ", channels, " ", side,
                    ": ", e);
    }
    CHECK(holds(run(Tensor<T, B>()), "images"));
    CHECK(holds(error_of([&] {
                  m.image.template operator()<Tensor<T, B>>(
                      images(2, 3, 32), nn::Mode::evaluation(), model::Levels::all);
                }),
                "S = image_size = 64"));
  }
}

TEST_CASE("sections: offsets that do not describe the ids are refused") {
  const std::vector<std::int32_t> ids{1, 7, 2, 1, 8, 2}, none{0, 0, 0};
  const auto plan = [&](const std::vector<std::int32_t>& offsets) {
    return error_of([&] { model::TextPlan<B>({ids, offsets}, {{}, none}, {}, 4, 64, 10); });
  };
  CHECK(plan({0, 3, 6}) == "");
  for (const std::vector<std::int32_t>& bad : std::vector<std::vector<std::int32_t>>{
           {0, 3, 40}, {}, {0, 6, 3}, {2, 3, 6}, {-4, -1, 6}, {3, 6, 6}, {0, 3, 5}, {0, 1, 6}})
    CHECK_MESSAGE(plan(bad).starts_with("[hybridmed.model]"), plan(bad));
  CHECK(holds(error_of([&] {
                model::TextPlan<B>({}, {ids, std::vector<std::int32_t>{0, 3, 6}}, {}, 4, 64, 10);
              }),
              "findings"));
  const std::vector<std::int32_t> two{0, 3, 6}, three{0, 0, 0, 0}, keys{1};
  CHECK(holds(error_of([&] {
                model::TextPlan<B>({ids, two}, {{}, three}, {}, 4, 64, 10);
              }),
              "2 samples"));
  CHECK(holds(error_of([&] {
                model::TextPlan<B>({ids, two}, {{}, none}, keys, 4, 64, 10);
              }),
              "keys of 1"));
  CHECK(holds(error_of([&] {
                model::TextPlan<B>({ids, two}, {{}, none}, {}, 4, 64, 8);
              }),
              "vocabulary of 8"));
}

TEST_CASE("an objective that forgot to list a need meets an error, not memory of nobody") {
  auto m = model::make_hybridmed<T, B>(model::Config::preset("tiny"), Forgetful::needs);
  nn::initialise(m, 1);
  CHECK(holds(error_of([&] {
                train::evaluate_step(m, 1.0 * Forgetful{}, batch_of(m, images(2, 3, 64)), nullptr,
                                     nn::Mode::evaluation());
              }),
              "needs"));
}

TEST_CASE(
    "a snapshot of a model without a summarization side is refused; with it the teacher has its "
    "weights") {
  const auto objective =
      0.5 * objective::InfoNce{} + objective::Captioning{} + objective::LogitDistillation{2};
  auto without = model::make_hybridmed<T, B>(model::Config::preset("tiny"), objective.needs);
  nn::initialise(without, 1);
  const std::string e = error_of([&] { without.snapshot(); });
  CHECK_MESSAGE((holds(e, "summarization") && holds(e, "hint")), e);

  auto m = model::make_hybridmed<T, B>(model::Config::preset("tiny"),
                                       objective.needs | objective::summarization_logits);
  nn::initialise(m, 1);
  auto teacher = m.snapshot();
  std::map<std::string, std::vector<T>> mine;
  nn::for_each_parameter(m,
                         [&](const std::string& name, auto& p) { mine[name] = p.value.to_host(); });
  std::size_t count = 0;
  nn::for_each_parameter(teacher, [&](const std::string& name, auto& p) {
    CHECK_MESSAGE(p.value.to_host() == mine.at(name), name);
    CHECK_FALSE(p.trainable);
    ++count;
  });
  CHECK(count > 20);
  for (T x : teacher(m.plan({findings, f_offsets}, {impression, i_offsets}, {})).to_host())
    CHECK(std::isfinite(x));

  nn::Linear<T, B> small(3, 2), large(3, 4);
  CHECK(holds(error_of([&] { nn::copy_by_name<T, B>(small, large, "test"); }),
              "weight of shape (4, 3)"));
}

TEST_CASE("a copy and a clone share no weights") {
  auto m = model::make_hybridmed<T, B>(model::Config::preset("tiny-resnet"));
  nn::initialise(m, 1);
  auto copy = m, assigned = model::make_hybridmed<T, B>(model::Config::preset("tiny-resnet"));
  assigned = m;
  auto clone = m.clone();
  const auto before = weights(m);
  CHECK(weights(copy) == before);
  optim::AdamW<T, B> optimizer(m, {});
  Tape tape;
  const auto teacher = m.snapshot();
  const auto report =
      train::train_step(m, model::stage2_objective(m.config), batch_of(m, images(2, 3, 64)),
                        &teacher, optimizer, 1e-2, tape, nn::Mode::training());
  CHECK(report.finite);
  CHECK(weights(m) != before);
  for (auto* other : {&copy, &assigned, &clone}) CHECK(weights(*other) == before);
  nn::for_each_state(
      m, [](const std::string&, auto&) {},
      [&](const std::string& name, auto& moved) {
        nn::for_each_state(
            copy, [](const std::string&, auto&) {},
            [&](const std::string& other, auto& kept) {
              if (name == other) CHECK_MESSAGE(kept.value.data() != moved.value.data(), name);
            });
      });
}

TEST_CASE("a term of weight 0 runs no kernel of its own; one that is observed does") {
  auto c = model::Config::preset("tiny");
  auto m = model::make_hybridmed<T, B>(c);
  nn::initialise(m, 1);
  const auto teacher = m.snapshot();
  const auto batch = batch_of(m, images(2, 3, 64));
  const auto run = [&](const auto& objective, const model::Teacher<T, B>* t) {
    B::attentions = B::local = 0;
    return train::evaluate_step(m, objective, batch, t, nn::Mode::evaluation());
  };
  run(model::stage2_objective(c), &teacher);
  const int all = B::attentions;
  CHECK(B::local == 1);
  c.lambda_dis = 0;
  const auto without = run(model::stage2_objective(c), nullptr);  // no teacher is asked for
  CHECK(B::attentions < all);
  CHECK(std::isnan(without.losses[4].value.item()));
  CHECK(without.finite);
  c.lambda_cl = 0;
  run(model::stage2_objective(c), nullptr);
  CHECK(B::local == 0);
  c.lambda_sum = c.lambda_cap = 0;
  run(model::stage2_objective(c), nullptr);
  const int alignment = B::attentions;
  CHECK(alignment == c.image_depth + c.uni_blocks);
  const auto observed =
      run(1.0 * objective::InfoNce{} + objective::observe(objective::LocalAlignment{}), nullptr);
  CHECK(B::local == 1);
  CHECK(std::isfinite(observed.losses[1].value.item()));
  CHECK(observed.total == doctest::Approx(static_cast<double>(observed.losses[0].value.item())));
  c.lambda_cg = 0;
  CHECK(holds(error_of([&] { run(model::stage2_objective(c), nullptr); }),
              "every term has weight 0"));
}
