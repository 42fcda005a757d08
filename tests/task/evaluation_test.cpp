// What an evaluation counts: labels where they are known, means over named labels, generated text
// that has collapsed.
#include <doctest/doctest.h>

#include <cmath>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/task/evaluation.hpp"

using namespace hybridmed;
using namespace hybridmed::task;
using hybridmed::test::error_of;

TEST_CASE(
    "a label counts where it is known to be present or absent; the mean is over the labels listed, "
    "and names them") {
  std::vector<data::Study> studies;
  data::Labels labels;
  labels.names = {"a", "b"};
  const std::size_t n = 60;
  ZeroShotScores scores;
  scores.global = scores.local = scores.both = xt::xtensor<double, 2>::from_shape({n, 2});
  std::vector<double> known_scores;
  std::vector<int> known;
  for (std::size_t i = 0; i < n; ++i) {
    data::Study s;
    s.id = "s" + std::to_string(i);
    studies.push_back(s);
    const int a = i % 5 == 0   ? data::Labels::unknown
                  : i % 7 == 0 ? data::Labels::uncertain
                               : static_cast<int>(i % 3 == 0),
              b = static_cast<int>(i < 7);
    for (auto* x : {&scores.global, &scores.local, &scores.both}) {
      (*x)(i, 0) = std::sin(static_cast<double>(3 * i)) + 0.5 * (i % 3 == 0);
      (*x)(i, 1) = static_cast<double>(i % 11);
    }
    if (i % 10 == 9) continue;  // no row at all
    labels.of[s.id] = {a, b};
    if (a == 0 || a == 1) {
      known_scores.push_back(scores.both(i, 0));
      known.push_back(a);
    }
  }
  const std::vector<LabelPrompts> prompts{{"a", {"x"}, {"y"}}, {"b", {"x"}, {"y"}}};
  const auto find = [](const std::vector<Figure>& figures, const std::string& name) {
    const auto it = std::find_if(figures.begin(), figures.end(),
                                 [&](const Figure& f) { return f.name == name; });
    REQUIRE_MESSAGE(it != figures.end(), name);
    return *it;
  };
  std::vector<Figure> figures;
  zero_shot_figures(prompts, scores, studies, labels, figures);
  CHECK(*find(figures, "auroc/both/a").value ==
        doctest::Approx(*metrics::auroc(known_scores, known)));
  CHECK(find(figures, "auroc/both/a").n ==
        static_cast<std::size_t>(std::count(known.begin(), known.end(), 1)));
  const Figure mean = find(figures, "auroc/both/mean of labels with n >= 10");
  CHECK(mean.labels == std::vector<std::string>{"a"});  // b has seven positives
  CHECK(*mean.value == doctest::Approx(*find(figures, "auroc/both/a").value));
  figures.clear();
  zero_shot_figures(prompts, scores, studies, labels, figures, {"a", "b"});
  const Figure listed = find(figures, "auroc/both/mean of the labels listed");
  CHECK(listed.labels == std::vector<std::string>{"a", "b"});
  CHECK(*listed.value ==
        doctest::Approx(
            (*find(figures, "auroc/both/a").value + *find(figures, "auroc/both/b").value) / 2));
  CHECK(*listed.low <= *listed.value);
  CHECK(*listed.high >= *listed.value);
  for (auto& [study, values] : labels.of)
    values[1] = 0;  // a label without positives leaves the fixed mean without a value
  figures.clear();
  zero_shot_figures(prompts, scores, studies, labels, figures, {"a", "b"});
  CHECK_FALSE(find(figures, "auroc/both/mean of the labels listed").value);
  CHECK(error_of([&] {
          zero_shot_figures({{"c", {"x"}, {"y"}}}, scores, studies, labels, figures);
        }).find("'c'") != std::string::npos);
}

TEST_CASE("generated text that says the same of most inputs is said to have collapsed") {
  CHECK(collapse_warning("captions", {"a b.", "c d."}, "") == "");
  CHECK(collapse_warning("captions", {"a.", "b.", "c.", "d."}, "a.") == "");
  const std::string w =
      collapse_warning("captions", {"No change.", "No change.", "x", "No change."}, "no change .");
  CHECK_MESSAGE(
      (w.find("3 of 4 captions") != w.npos &&
       w.find("most frequent training impression") != w.npos && w.find("2 are distinct") != w.npos),
      w);
}
