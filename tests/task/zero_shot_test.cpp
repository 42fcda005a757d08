// Zero-shot scores: prompt files, and how several prompts become one score.
#include <doctest/doctest.h>

#include <fstream>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/task/zero_shot.hpp"

using namespace hybridmed;
using task::LabelPrompts;
using task::PromptEnsemble;
using T = double;
using B = CpuBackend;

namespace {

std::vector<LabelPrompts> read(const std::string& text) {
  const test::ScratchFolder folder;
  std::ofstream(folder.path / "prompts.json") << text;
  return task::read_prompts(folder.path / "prompts.json");
}

/// Scores of three images by a small model with random weights.
struct Scorer {
  data::WordPiece vocabulary = data::train_wordpiece(
      {"pleural effusion. large heart. the lungs are clear. no effusion."}, 60);
  model::Config config = model::Config::preset("tiny");
  std::optional<model::HybridMed<T, B, model::AnyEncoder<T, B>>> model;
  std::optional<task::Embeddings<T, B>> embedded;

  Scorer() {
    config.vocab = static_cast<Index>(vocabulary.size());
    model.emplace(model::make_hybridmed<T, B>(config));
    nn::initialise(*model, 5);
    const Index side = config.image_size;
    auto images = Tensor<T, B>::zeros({3, 3, side, side});
    B::fill_normal(images.size(), Philox(8), 1.0, images.data());
    embedded.emplace(task::embed_images<T, B>(*model, images));
  }
  task::ZeroShotScores operator()(const std::vector<LabelPrompts>& prompts) const {
    return task::zero_shot<T, B>(*model, vocabulary, data::Cleaning::standard, prompts, *embedded);
  }
};

}  // namespace

TEST_CASE("prompt files: lists, and the ensemble where it is named") {
  const auto p = read(R"({"a": {"positive": ["x", "y"], "negative": ["z"], "ensemble": "mean"}, )"
                      R"("b": {"positive": ["u"], "negative": ["v"]}})");
  REQUIRE(p.size() == 2);
  CHECK(p[0].label == "a");
  CHECK(p[0].positive == std::vector<std::string>{"x", "y"});
  CHECK(p[0].negative == std::vector<std::string>{"z"});
  CHECK(p[0].ensemble == PromptEnsemble::mean);
  CHECK(p[1].ensemble == PromptEnsemble::max);
}

TEST_CASE("prompt files: what is wrong is named with its label") {
  const auto error = [](const std::string& text) { return test::error_of([&] { read(text); }); };
  const auto names = [&](const std::string& text, const std::string& what) {
    const auto e = error(text);
    CHECK_MESSAGE(test::holds(e, "prompts.json"), e);
    CHECK_MESSAGE(test::holds(e, what), e);
  };
  names("[]", "expected an object");
  names("{}", "expected an object");
  names(R"({"a": 3})", "'a'");
  names(R"({"a": {"positive": ["x"]}})", "negative");
  names(R"({"a": {"positive": [], "negative": ["x"]}})", "at least one positive");
  names(R"({"a": {"positive": ["x"], "negative": ["y"], "ensemble": "median"}})",
        "expected ensemble max or mean, got 'median'");
  names(R"({"a": {"positive": ["x"], "negative": ["y"], "ensemble": 1}})", "ensemble");
  names(R"({"a": {"positive": ["x"], "negative": ["y"], "ensembles": "mean"}})",
        "unknown key 'ensembles'");
}

TEST_CASE("several prompts: the best, or the mean, of what each scores alone") {
  const Scorer score;
  const std::string p = "pleural effusion.", q = "large heart.", r = "effusion. large.",
                    n = "the lungs are clear.", m = "no effusion.";
  const auto alone_p = score({{"l", {p}, {n}}}), alone_q = score({{"l", {q}, {n}}}),
             alone_r = score({{"l", {r}, {n}}}), against_m = score({{"l", {p}, {m}}});
  const auto best = score({{"l", {p, q, r}, {n}}}),
             mean = score({{"l", {p, q, r}, {n}, PromptEnsemble::mean}}),
             best_negative = score({{"l", {p}, {n, m}}}),
             mean_negative = score({{"l", {p}, {n, m}, PromptEnsemble::mean}});
  for (const auto kind : {&task::ZeroShotScores::global, &task::ZeroShotScores::local})
    for (std::size_t i = 0; i < 3; ++i) {
      const double a = (alone_p.*kind)(i, 0), b = (alone_q.*kind)(i, 0), c = (alone_r.*kind)(i, 0),
                   d = (against_m.*kind)(i, 0);
      REQUIRE(std::abs(a - b) > 1e-6);  // else best and mean would be the same
      REQUIRE(std::abs(a - c) > 1e-6);
      REQUIRE(std::abs(a - d) > 1e-6);
      CHECK((best.*kind)(i, 0) == doctest::Approx(std::max({a, b, c})).epsilon(1e-9));
      CHECK((mean.*kind)(i, 0) == doctest::Approx((a + b + c) / 3).epsilon(1e-9));
      CHECK((best_negative.*kind)(i, 0) == doctest::Approx(std::min(a, d)).epsilon(1e-9));
      CHECK((mean_negative.*kind)(i, 0) == doctest::Approx((a + d) / 2).epsilon(1e-9));
    }
}

TEST_CASE("several labels: each reads its own prompts, and both is the mean of global and local") {
  const Scorer score;
  const LabelPrompts a{"a", {"pleural effusion.", "large heart."}, {"the lungs are clear."}},
      b{"b", {"no effusion."}, {"large heart.", "pleural effusion."}, PromptEnsemble::mean};
  const auto alone_a = score({a}), alone_b = score({b}), together = score({a, b});
  for (std::size_t i = 0; i < 3; ++i) {
    for (const auto kind : {&task::ZeroShotScores::global, &task::ZeroShotScores::local}) {
      CHECK((together.*kind)(i, 0) == doctest::Approx((alone_a.*kind)(i, 0)).epsilon(1e-9));
      CHECK((together.*kind)(i, 1) == doctest::Approx((alone_b.*kind)(i, 0)).epsilon(1e-9));
    }
    for (std::size_t k = 0; k < 2; ++k)
      CHECK(together.both(i, k) ==
            doctest::Approx((together.global(i, k) + together.local(i, k)) / 2).epsilon(1e-9));
  }
}
