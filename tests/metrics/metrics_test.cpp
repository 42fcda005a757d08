// Metrics: AUROC and its bootstrap, recall with ties, BLEU and ROUGE-L.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "hybridmed/metrics/classification.hpp"
#include "hybridmed/metrics/retrieval.hpp"
#include "hybridmed/metrics/text.hpp"

using namespace hybridmed;
using namespace hybridmed::metrics;
using doctest::Approx;

namespace {

Words words(const std::string& s) {
  std::istringstream in(s);
  Words out;
  for (std::string w; in >> w;) out.push_back(w);
  return out;
}
template <class T>
std::vector<T> numbers(const std::string& s) {
  std::istringstream in(s);
  std::vector<T> out;
  for (T x; in >> x;) out.push_back(x);
  return out;
}
xt::xtensor<double, 2> matrix(const std::vector<std::vector<double>>& rows) {
  auto m = xt::xtensor<double, 2>::from_shape({rows.size(), rows.empty() ? 0 : rows[0].size()});
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (std::size_t j = 0; j < rows[i].size(); ++j) m(i, j) = rows[i][j];
  return m;
}

/// Recall of one query as the mean over every order of the candidates: the stable sort by falling
/// score of each order.
double brute_force(const std::vector<double>& score, const std::vector<bool>& relevant,
                   std::size_t k) {
  std::vector<std::size_t> order(score.size());
  std::iota(order.begin(), order.end(), 0);
  double hits = 0, n = 0;
  do {
    std::vector<std::size_t> ranked = order;
    std::stable_sort(ranked.begin(), ranked.end(),
                     [&](std::size_t a, std::size_t b) { return score[a] > score[b]; });
    bool hit = false;
    for (std::size_t i = 0; i < std::min(k, ranked.size()); ++i) hit = hit || relevant[ranked[i]];
    hits += hit;
    n += 1;
  } while (std::next_permutation(order.begin(), order.end()));
  return hits / n;
}

/// True where f returns within ten seconds: it runs in a child process.
template <class F>
bool returns(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(10);
    try {
      f();
    } catch (...) {
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

// ---------------------------------------------------------------- AUROC

TEST_CASE("AUROC by hand") {
  CHECK(auroc({0.1, 0.4, 0.35, 0.8}, {0, 0, 1, 1}).value() ==
        Approx(0.75));  // 3 of 4 pairs in order
  CHECK(auroc({1, 2, 3, 4}, {0, 0, 1, 1}).value() == 1.0);
  CHECK(auroc({1, 2, 3, 4}, {1, 1, 0, 0}).value() == 0.0);
  CHECK(auroc({5, 5, 5, 5}, {1, 0, 1, 0}).value() == 0.5);            // ties count half
  CHECK(auroc({1, 2, 2, 3}, {0, 0, 1, 1}).value() == Approx(0.875));  // 3.5 of 4
  CHECK(auroc({-1e300, 1e300}, {0, 1}).value() == 1.0);
}

TEST_CASE("AUROC has no value where a class is empty") {
  CHECK(!auroc({1, 2, 3}, {1, 1, 1}).has_value());
  CHECK(!auroc({1, 2, 3}, {0, 0, 0}).has_value());
  CHECK(!auroc({1}, {1}).has_value());
  CHECK(!auroc({}, {}).has_value());
}

TEST_CASE("AUROC equals the reference, with few and many ties") {
  std::ifstream in(std::filesystem::path(HYBRIDMED_FIXTURES) / "auroc.tsv");
  REQUIRE(in.good());
  int cases = 0;
  for (std::string line; std::getline(in, line); ++cases) {
    std::istringstream fields(line);
    std::string scores, labels, expected;
    std::getline(fields, scores, '\t');
    std::getline(fields, labels, '\t');
    std::getline(fields, expected, '\t');
    const auto s = numbers<double>(scores);
    const auto l = numbers<int>(labels);
    REQUIRE(s.size() == l.size());
    CHECK(std::abs(auroc(s, l).value() - std::stod(expected)) < 1e-12);
    // The same by counting pairs.
    double wins = 0, pairs = 0;
    for (std::size_t i = 0; i < s.size(); ++i)
      for (std::size_t j = 0; j < s.size(); ++j)
        if (l[i] == 1 && l[j] == 0) {
          wins += s[i] > s[j] ? 1 : s[i] == s[j] ? 0.5 : 0;
          pairs += 1;
        }
    CHECK(std::abs(auroc(s, l).value() - wins / pairs) < 1e-12);
  }
  CHECK(cases == 9);
}

TEST_CASE("AUROC of scores that are not numbers comes to an end") {
  CHECK(returns([] { (void)auroc({not_a_number, 1, 2, 3}, {0, 1, 0, 1}); }));
  CHECK(
      returns([] { (void)auroc(std::vector<double>(50, not_a_number), std::vector<int>(50, 1)); }));
}

// ---------------------------------------------------------------- bootstrap

TEST_CASE("the bootstrap's ends are numpy's percentiles of its draws") {
  double next = 0;
  const Interval i = bootstrap(
      3, [&](const std::vector<std::size_t>&) -> std::optional<double> { return next++; },
      Philox(1));                                 // the draws are 0..999
  CHECK(i.low == Approx(24.975).epsilon(1e-12));  // numpy.percentile(arange(1000), (2.5, 97.5))
  CHECK(i.high == Approx(974.025).epsilon(1e-12));
  next = 0;
  int calls = 0;
  const Interval some = bootstrap(
      3,
      [&](const std::vector<std::size_t>&) -> std::optional<double> {
        if (++calls % 2) return std::nullopt;
        return next++;
      },
      Philox(1));
  CHECK(calls == 2000);  // draws without a value are repeated
  CHECK(some.low == i.low);
  CHECK(some.high == i.high);
  const Interval none = bootstrap(
      3, [](const std::vector<std::size_t>&) -> std::optional<double> { return std::nullopt; },
      Philox(1));
  CHECK((std::isnan(none.low) && std::isnan(none.high)));
  const Interval one = bootstrap(
      3, [](const std::vector<std::size_t>&) -> std::optional<double> { return 2.0; }, Philox(1),
      1);
  CHECK((one.low == 2 && one.high == 2));
}

TEST_CASE("the bootstrap draws n indices with replacement, alike for equal seeds") {
  std::vector<std::vector<std::size_t>> draws;
  const auto f = [&](const std::vector<std::size_t>& index) -> std::optional<double> {
    draws.push_back(index);
    return static_cast<double>(index[0]);
  };
  bootstrap(7, f, Philox(3), 400);
  REQUIRE(draws.size() == 400);
  std::vector<int> counts(7);
  std::size_t repeated = 0;
  for (const auto& d : draws) {
    REQUIRE(d.size() == 7);
    for (std::size_t i : d) {
      REQUIRE(i < 7);
      ++counts[i];
    }
    std::vector<std::size_t> s = d;
    std::sort(s.begin(), s.end());
    repeated += std::adjacent_find(s.begin(), s.end()) != s.end();
  }
  for (int n : counts) CHECK((n > 300 && n < 500));  // 400 each on average, standard deviation 18.5
  CHECK(repeated > 380);                             // 7! / 7^7 = 0.6 % have no repetition
  const auto first = draws;
  draws.clear();
  bootstrap(7, f, Philox(3), 400);
  CHECK(draws == first);
  draws.clear();
  bootstrap(7, f, Philox(4), 400);
  CHECK(draws != first);
}

TEST_CASE(
    "the interval of an AUROC is deterministic, holds the value, and narrows with the sample") {
  const auto sample = [](std::size_t n) {
    std::vector<double> s;
    std::vector<int> l;
    for (std::size_t i = 0; i < n; ++i) {
      l.push_back(i % 4 == 0);
      s.push_back(Philox(5).normal(i) + l.back());
    }
    return std::pair(s, l);
  };
  const auto [s, l] = sample(80);
  const Interval a = auroc_interval(s, l, Philox(1)), b = auroc_interval(s, l, Philox(1)),
                 c = auroc_interval(s, l, Philox(2));
  CHECK((a.low == b.low && a.high == b.high));
  CHECK((a.low != c.low || a.high != c.high));
  CHECK(std::abs(a.low - c.low) < 0.03);
  const double value = auroc(s, l).value();
  CHECK((a.low < value && value < a.high));
  const auto [s2, l2] = sample(1280);
  const Interval wide = a, narrow = auroc_interval(s2, l2, Philox(1));
  CHECK((wide.high - wide.low) / (narrow.high - narrow.low) ==
        Approx(4).epsilon(0.35));  // 16 times the cases: a quarter of the width
  const Interval single = auroc_interval({1, 2, 3}, {1, 1, 1}, Philox(1));
  CHECK((std::isnan(single.low) && std::isnan(single.high)));
}

TEST_CASE(
    "the interval of a mean AUROC: one label gives its own interval, a copy changes nothing, "
    "independent labels narrow it") {
  const auto sample = [](std::uint64_t seed) {
    std::vector<double> s;
    std::vector<int> l;
    for (std::uint64_t i = 0; i < 200; ++i) {
      l.push_back(Philox(seed, 1).uniform(i) < 0.4);
      s.push_back(l.back() + 1.5 * Philox(seed, 2).normal(i));
    }
    return std::pair(s, l);
  };
  const auto a = sample(1), b = sample(2);
  const Interval own = auroc_interval(a.first, a.second, Philox(5)),
                 one = mean_auroc_interval({a}, Philox(5)),
                 twice = mean_auroc_interval({a, a}, Philox(5)),
                 both = mean_auroc_interval({a, b}, Philox(5));
  CHECK((one.low == own.low && one.high == own.high));
  CHECK((twice.low == Approx(own.low) && twice.high == Approx(own.high)));
  CHECK((both.high - both.low) / (own.high - own.low) == Approx(std::sqrt(0.5)).epsilon(0.2));
  CHECK(std::isnan(mean_auroc_interval({}, Philox(5)).low));
}

// ---------------------------------------------------------------- recall

TEST_CASE("hit_chance is 1 - C(n - m, k) / C(n, k)") {
  const auto choose = [](double n, double k) {
    double c = 1;
    for (double i = 0; i < k; ++i) c *= (n - i) / (i + 1);
    return n < k ? 0.0 : c;
  };
  for (std::size_t n = 1; n <= 12; ++n)
    for (std::size_t m = 0; m <= n; ++m)
      for (std::size_t k = 0; k <= n; ++k)
        CHECK(std::abs(hit_chance(n, m, k) -
                       (1 - choose(static_cast<double>(n - m), static_cast<double>(k)) /
                                choose(static_cast<double>(n), static_cast<double>(k)))) < 1e-12);
  CHECK(hit_chance(100, 1, 5) == Approx(0.05));
  CHECK(hit_chance(1000000, 1, 10) == Approx(1e-5));
  CHECK(hit_chance(5, 5, 1) == 1.0);
}

TEST_CASE("recall by hand") {
  const auto sim = matrix({{0.9, 0.1, 0.2}, {0.8, 0.3, 0.5}, {0.1, 0.7, 0.6}});
  const std::vector<std::int32_t> key{0, 1, 2};
  const Recall one = recall_at(sim, key, key, 1), two = recall_at(sim, key, key, 2),
               three = recall_at(sim, key, key, 3), more = recall_at(sim, key, key, 10);
  CHECK(one.hits == std::vector<double>{1, 0, 0});
  CHECK(one.value == Approx(1.0 / 3));
  CHECK(one.chance == Approx(1.0 / 3));
  CHECK(one.n == 3);
  CHECK(two.hits == std::vector<double>{1, 0, 1});
  CHECK(two.chance == Approx(2.0 / 3));
  CHECK((three.value == 1 && three.chance == 1));
  CHECK((more.value == 1 && more.chance == 1));
  // Equal keys are all relevant, and the chance counts them.
  const Recall same = recall_at(sim, {0, 1, 1}, {1, 1, 0}, 1);
  CHECK(same.hits == std::vector<double>{0, 1, 1});
  CHECK(same.chance == Approx((1.0 / 3 + 2.0 / 3 + 2.0 / 3) / 3));
  // A subset of the queries; a query that nothing fits.
  const Recall some = recall_at(sim, key, key, 1, {true, false, true});
  CHECK((some.n == 2 && some.value == 0.5));
  const Recall none = recall_at(sim, {7, 8, 9}, key, 2);
  CHECK((none.n == 3 && none.value == 0 && none.chance == 0));
  CHECK(recall_at(sim, key, key, 1, {false, false, false}).n == 0);
}

TEST_CASE("recall with ties equals the mean over every order of the tied candidates") {
  for (std::uint64_t trial = 0; trial < 60; ++trial) {
    const Philox random(17, trial);
    const std::size_t n = 2 + random.below(0, 5), levels = 1 + random.below(1, 4);
    std::vector<double> score;
    std::vector<std::int32_t> key;
    std::vector<bool> relevant;
    for (std::size_t i = 0; i < n; ++i) {
      score.push_back(static_cast<double>(random.below(10 + i, levels)) / 4 - 0.5);
      key.push_back(static_cast<std::int32_t>(random.below(30 + i, 3)));
      relevant.push_back(key.back() == 1);
    }
    const std::size_t m =
        static_cast<std::size_t>(std::count(relevant.begin(), relevant.end(), true));
    for (std::size_t k = 1; k <= n + 1; ++k) {
      CAPTURE(trial);
      CAPTURE(k);
      const Recall r = recall_at(matrix({score}), {1}, key, k);
      REQUIRE(r.hits.size() == 1);
      CHECK(std::abs(r.hits[0] - brute_force(score, relevant, k)) < 1e-12);
      CHECK(std::abs(r.chance - brute_force(std::vector<double>(n, 0.0), relevant, k)) <
            1e-12);  // all tied: pure chance
      CHECK((m > 0 || r.value == 0));
    }
  }
}

TEST_CASE("a model that scores all candidates alike recalls at chance") {
  const std::vector<std::int32_t> key{0, 0, 1, 2, 2, 2, 3, 4};
  const Recall r = recall_at(
      matrix(std::vector<std::vector<double>>(8, std::vector<double>(8, 0.3))), key, key, 3);
  CHECK(r.value == Approx(r.chance));
}

TEST_CASE("similarities that are not numbers are no hits") {
  // A model that diverged must not score 100 %.
  double value = 0;
  try {
    value =
        recall_at(matrix(std::vector<std::vector<double>>(3, std::vector<double>(3, not_a_number))),
                  {0, 1, 2}, {0, 1, 2}, 1)
            .value;
  } catch (const std::exception&) {  // refusing them is as good
  }
  CHECK(!(value > 0.5));
}

// ---------------------------------------------------------------- text

TEST_CASE("words are cut at spaces, punctuation marks apart") {
  CHECK(split_words("the heart, 50%.") == Words{"the", "heart", ",", "50", "%", "."});
  CHECK(split_words("") == Words{});
  CHECK(split_words("  a\n\tb ") == Words{"a", "b"});
  CHECK(split_words("t9-t10") == Words{"t9", "-", "t10"});
}

TEST_CASE("BLEU: the textbook's clipping example") {
  // Papineni et al.: "the" x 7 against "the cat is on the mat": precision 2/7, the reference is
  // shorter.
  const auto b = bleu({words("the the the the the the the")}, {words("the cat is on the mat")});
  CHECK(b[0] == Approx(2.0 / 7));
  CHECK((b[1] == 0 && b[2] == 0 && b[3] == 0));
}

TEST_CASE("BLEU by hand") {
  // 6 words against 6: 1-grams 5/6 (sat, not is), 2-grams 3/5, 3-grams 1/4, 4-grams 0/3.
  const Words reference = words("the cat is on the mat"),
              candidate = words("the cat sat on the mat");
  const auto b = bleu({candidate}, {reference});
  CHECK(b[0] == Approx(5.0 / 6));
  CHECK(b[1] == Approx(std::sqrt(5.0 / 6 * 3 / 5)));
  CHECK(b[2] == Approx(std::cbrt(5.0 / 6 * 3 / 5 * 1 / 4)));
  CHECK(b[3] == 0);
  const auto same = bleu({reference}, {reference});
  for (double x : same) CHECK(x == Approx(1));
}

TEST_CASE("BLEU: brevity penalty and corpus counts") {
  // 4 of 6 words, all right: precisions 1, penalty exp(1 - 6/4).
  const auto brief = bleu({words("the cat is on")}, {words("the cat is on the mat")});
  for (double x : brief) CHECK(x == Approx(std::exp(1 - 6.0 / 4)));
  // No penalty for length.
  CHECK(bleu({words("the cat is on the mat today")}, {words("the cat is on the mat")})[0] ==
        Approx(6.0 / 7));
  // Counts and lengths are summed over the corpus before they are divided: not the mean of single
  // scores.
  const auto corpus =
      bleu({words("a b c d e"), words("x y")}, {words("a b c d e"), words("p q r s")});
  const double penalty = std::exp(1 - 9.0 / 7);
  CHECK(corpus[0] == Approx(penalty * 5 / 7));
  CHECK(corpus[1] == Approx(penalty * std::sqrt(5.0 / 7 * 4 / 5)));  // 4 of 4 + 1
  CHECK(corpus[2] == Approx(penalty * std::cbrt(5.0 / 7 * 4 / 5 * 3 / 3)));
  CHECK(corpus[3] == Approx(penalty * std::pow(5.0 / 7 * 4 / 5 * 3 / 3 * 2 / 2, 0.25)));
  // Clipping is per text: a word of one reference does not serve another candidate.
  CHECK(bleu({words("a"), words("b")}, {words("b"), words("a")})[0] == 0);
  for (double x : bleu({Words{}}, {words("a b")})) CHECK(x == 0);
  for (double x : bleu({}, {})) CHECK(x == 0);
  // An empty candidate among others counts its reference's length.
  CHECK(bleu({words("a b"), Words{}}, {words("a b"), words("c d")})[0] ==
        Approx(std::exp(1 - 4.0 / 2)));
}

TEST_CASE("ROUGE-L by hand, beta 1.2") {
  // LCS("police kill the gunman", "police killed the gunman") = 3: P = R = 3/4, F = 3/4 for any
  // beta.
  CHECK(rouge_l(words("police kill the gunman"), words("police killed the gunman")) ==
        Approx(0.75));
  // LCS 2 (police, the gunman in the wrong order): "the gunman" = 2 of 4.
  CHECK(rouge_l(words("the gunman kill police"), words("police killed the gunman")) == Approx(0.5));
  // P = 2/2, R = 2/4: F = (1 + 1.44) P R / (R + 1.44 P) = 1.22 / 1.94.
  CHECK(rouge_l(words("a c"), words("a b c d")) == Approx(1.22 / 1.94));
  // P = 2/4, R = 2/2: 1.22 / (1 + 0.72); recall weighs more, so this is higher.
  CHECK(rouge_l(words("a b c d"), words("a c")) == Approx(1.22 / 1.72));
  CHECK(rouge_l(words("a"), words("b")) == 0);
  CHECK(rouge_l(Words{}, words("a")) == 0);
  CHECK(rouge_l(words("a"), Words{}) == 0);
  CHECK(rouge_l(words("a b"), words("a b")) == Approx(1));
  // LCS, not a common run: a x b y c against a b c z has 3.
  CHECK(rouge_l(words("a x b y c"), words("a b c z")) ==
        Approx(2.44 * 0.6 * 0.75 / (0.75 + 1.44 * 0.6)));
  // The corpus score is the mean over texts.
  CHECK(rouge_l(std::vector<Words>{words("a c"), words("a")},
                std::vector<Words>{words("a b c d"), words("b")}) == Approx(0.5 * 1.22 / 1.94));
  CHECK(rouge_l(std::vector<Words>{}, std::vector<Words>{}) == 0);
}

TEST_CASE("sizes and labels that do not fit are errors, not figures") {
  CHECK_THROWS_AS(auroc({1, 2, 3}, {0, 1}), Error);
  CHECK_THROWS_AS(auroc({1, 2, 3}, {0, 1, -1}), Error);
  CHECK_THROWS_AS(auroc({1, 2, 3}, {0, 1, 2}), Error);
  CHECK_THROWS_AS(mean_auroc_interval({{{1, 2}, {0, 1}}, {{1, 2, 3}, {0, 1, 1}}}, Philox(1)),
                  Error);
  const auto square = xt::xtensor<double, 2>::from_shape({3, 3});
  CHECK_THROWS_AS(recall_at(square, {0, 1}, {0, 1, 2}, 1), Error);
  CHECK_THROWS_AS(recall_at(square, {0, 1, 2}, {0, 1}, 1), Error);
  CHECK_THROWS_AS(recall_at(square, {0, 1, 2}, {0, 1, 2}, 1, {true}), Error);
  const std::vector<Words> one{split_words("a")}, two{split_words("a"), split_words("b")};
  CHECK_THROWS_AS(bleu(one, two), Error);
  CHECK_THROWS_AS(rouge_l(two, one), Error);
}

TEST_CASE("the interval of a share is Wilson's") {
  const auto some =
      hybridmed::metrics::share_interval(8, 10);  // 0.4902, 0.9433: by the formula, with z = 1.96
  CHECK(some.low == doctest::Approx(0.4902).epsilon(1e-3));
  CHECK(some.high == doctest::Approx(0.9433).epsilon(1e-3));
  const auto none = hybridmed::metrics::share_interval(0, 10);
  CHECK(none.low == 0);
  CHECK(none.high == doctest::Approx(0.2775).epsilon(1e-3));
  CHECK_THROWS_AS(hybridmed::metrics::share_interval(1, 0), hybridmed::Error);
}
