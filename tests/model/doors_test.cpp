// The doors of a model: shapes against the configuration and the plan, sections, copies, terms of
// weight 0, the teacher.
#include <doctest/doctest.h>

#include <numeric>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// The CPU backend, counting kernels.
struct Counting : CpuBackend {
  static constexpr const char* name = "counting";
  static inline int attentions = 0, local = 0;
  static inline bool half_products = false;  // of the last local alignment
  template <class T>
  static void attention(const AttentionArgs<T>& a) {
    ++attentions;
    CpuBackend::attention(a);
  }
  template <class T>
  static void local_scores(const LocalArgs<T>& a, T* z) {
    ++local;
    half_products = a.half_products;
    CpuBackend::local_scores(a, z);
  }
};

using T = float;
using B = Counting;

/// Reads the text vector, and does not say so. Where no other term says so either it does not
/// compile.
struct Forgetful {
  static constexpr std::string_view name = "forgetful";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return symmetric_cross_entropy(
        linear(normalize_rows(get<representation::ImageGlobal>(r).projected),
               normalize_rows(get<representation::ImpressionGlobal>(r).projected)),
        {}, 0, 0.5, 0.5);
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
    const system::Composed composed(
        m, 1.0 * objective::LocalAlignment{} + objective::Captioning{} + objective::InfoNce{});
    const auto run = [&](Tensor<T, B> x) {
      return error_of([&] {
        train::evaluate_step(composed, batch_of(m, std::move(x)), nn::Mode::evaluation());
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

TEST_CASE("a batch that another model has planned is refused, not read at other regions") {
  auto config = model::Config::preset("tiny-resnet");
  auto m = model::make_hybridmed<T, B>(config);
  nn::initialise(m, 1);
  const system::Composed composed(m, 1.0 * objective::LocalAlignment{});
  config.grid = 4;
  const auto coarse = model::make_hybridmed<T, B>(config);
  const auto blind = model::make_hybridmed<T, B>(config, objective::InfoNce::needs);
  const std::vector<std::int32_t> one_silent{0, 5, 5};  // the second sample has no findings
  const auto run = [&](const auto& planner) {
    const model::Batch<T, B> batch{
        images(2, 3, 64),
        planner.plan({std::span(findings).first(5), one_silent}, {impression, i_offsets}, {})};
    return error_of([&] { train::evaluate_step(composed, batch, nn::Mode::evaluation()); });
  };
  CHECK(run(m) == "");
  CHECK(holds(run(coarse), "planned for images of 16 regions, but the model has 64 (8 x 8)"));
  CHECK(holds(run(blind), "planned for images of 0 regions"));
}

TEST_CASE("sections: offsets that do not describe the ids are refused") {
  const std::vector<std::int32_t> ids{1, 7, 2, 1, 8, 2}, none{0, 0, 0};
  const auto plan = [&](const std::vector<std::int32_t>& offsets) {
    return error_of([&] { model::TextPlan<B>({ids, offsets}, {{}, none}, {}, 4, 64, 10); });
  };
  CHECK(plan({0, 3, 6}) == "");
  for (const std::vector<std::int32_t>& bad : std::vector<std::vector<std::int32_t>>{
           {0, 3, 40}, {}, {0, 6, 3}, {2, 3, 6}, {-4, -1, 6}, {3, 6, 6}, {0, 3, 5}})
    CHECK_MESSAGE(plan(bad).starts_with("[hybridmed.core] SectionView: findings: "), plan(bad));
  CHECK_MESSAGE(plan({0, 1, 6}).starts_with("[hybridmed.model]"), plan({0, 1, 6}));
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
  const auto objective = 1.0 * Forgetful{} + 0.0 * objective::InfoNce{};  // left out, so not wanted
  auto m = model::make_hybridmed<T, B>(model::Config::preset("tiny"), objective.needs);
  nn::initialise(m, 1);
  const system::Composed composed(m, objective);
  const std::string e = error_of([&] {
    train::evaluate_step(composed, batch_of(m, images(2, 3, 64)), nn::Mode::evaluation());
  });
  CHECK_MESSAGE(holds(e, "reads 'impression_global', but the model has not computed it"), e);
  CHECK_MESSAGE(holds(e, "needs"), e);
}

TEST_CASE("a batch without teacher logits, or with those of another batch, is refused") {
  auto m = model::make_hybridmed<T, B>(model::Config::preset("tiny"));
  nn::initialise(m, 1);
  const auto teacher = m.snapshot();
  const system::Composed composed(m, 1.0 * objective::LogitDistillation{2});
  auto batch = batch_of(m, images(2, 3, 64));
  const auto run = [&] {
    return error_of([&] { train::evaluate_step(composed, batch, nn::Mode::evaluation()); });
  };
  CHECK_MESSAGE((holds(run(), "the batch has none") && holds(run(), "teacher(batch.text)")), run());
  batch.teacher_logits = teacher(batch.text);
  CHECK(run() == "");
  batch.teacher_logits = teacher(m.plan({impression, i_offsets}, {findings, f_offsets}, {}));
  CHECK(run() != "");
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
                                       objective.needs | objective::Summarization::needs);
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
  system::Composed composed(m, system::HybridMed::alignment(m.config));
  optim::AdamW<T, B> optimizer(composed, {});
  Tape tape;
  const auto teacher = m.snapshot();
  auto batch = batch_of(m, images(2, 3, 64));
  batch.teacher_logits = teacher(batch.text);
  const auto report =
      train::train_step(composed, batch, optimizer, 1e-2, tape, nn::Mode::training());
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
  const auto run = [&](const auto& objective) {
    const system::Composed composed(m, objective);
    auto taught = batch;
    B::attentions = B::local = 0;
    if (objective.template reads<representation::TeacherLogits>())
      taught.teacher_logits = teacher(batch.text);
    return train::evaluate_step(composed, taught, nn::Mode::evaluation());
  };
  run(system::HybridMed::alignment(c));
  const int all = B::attentions;
  CHECK(B::local == 1);
  c.lambda_dis = 0;
  CHECK_FALSE(system::HybridMed::alignment(c).reads<representation::TeacherLogits>());
  const auto without = run(system::HybridMed::alignment(c));  // no teacher is asked for
  const int untaught = B::attentions;
  CHECK(untaught < all);
  CHECK(std::isnan(without.losses[4].value.item()));
  CHECK(without.finite);
  c.lambda_cl = 0;
  run(system::HybridMed::alignment(c));
  CHECK(B::local == 0);
  c.lambda_sum = c.lambda_cap = 0;
  run(system::HybridMed::alignment(c));
  const int alignment = B::attentions;
  CHECK(alignment == c.image_depth + c.uni_blocks);
  const auto observed =
      run(1.0 * objective::InfoNce{} + objective::observe(objective::LocalAlignment{}));
  CHECK(B::local == 1);
  CHECK(std::isfinite(observed.losses[1].value.item()));
  CHECK(observed.total == doctest::Approx(static_cast<double>(observed.losses[0].value.item())));
  c.lambda_cg = 0;
  CHECK(holds(error_of([&] { run(system::HybridMed::alignment(c)); }), "every term has weight 0"));

  // The same in a system, which asks its teacher itself.
  c = model::Config::preset("tiny");
  for (const bool distils : {true, false}) {
    c.lambda_dis = distils ? 1 : 0;
    system::SystemOf<system::HybridMed, T, B> s(c);
    nn::initialise(s, 1);
    s.begin_stage(1);
    CHECK(s.has_teacher() == distils);
    system::StageOf<T, B> stage(s, 1);
    B::attentions = 0;
    CHECK(train::evaluate_step(stage, batch, nn::Mode::evaluation()).finite);
    CHECK(B::attentions == (distils ? all : untaught));
  }
}

TEST_CASE("local alignment may round factors of products where the model computes in bf16") {
  const auto run = [&]<class S>(S) {
    auto m = model::make_hybridmed<S, B>(model::Config::preset("tiny"),
                                         objective::LocalAlignment::needs);
    nn::initialise(m, 1);
    const system::Composed composed(m, 1.0 * objective::LocalAlignment{});
    train::evaluate_step(
        composed,
        model::Batch<S, B>{Tensor<S, B>::full({2, 3, 64, 64}, S(0.1f)),
                           m.plan({findings, f_offsets}, {impression, i_offsets}, {})},
        nn::Mode::evaluation());
    return B::half_products;
  };
  CHECK_FALSE(run(float{}));
  CHECK(run(bfloat16{}));
}
