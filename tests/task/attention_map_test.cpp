// Maps of words and of a text, by hand.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/task/attention_map.hpp"

using namespace hybridmed;
using X = Tensor<double, CpuBackend>;

static X x(const std::vector<double>& values, const Shape& shape) {
  return X::from_host(values, shape);
}

TEST_CASE("attention maps: two regions, two words") {
  const auto maps = task::attention_maps(x({1, 2}, {2, 1}), x({1, 0}, {2, 1}), 4);
  // a1 over the words: e^1 / (e^1 + 1) and e^2 / (e^2 + 1) for the first word
  const double near = 1 / (1 + std::exp(-1.)), far = 1 / (1 + std::exp(-2.));
  CHECK(maps.word(0, 0) == doctest::Approx(1 / (1 + std::exp(4 * (far - near)))).epsilon(1e-12));
  CHECK(maps.word(0, 1) == doctest::Approx(1 / (1 + std::exp(4 * (near - far)))).epsilon(1e-12));
  CHECK(maps.word(1, 0) == doctest::Approx(maps.word(0, 1)).epsilon(1e-12));  // 1 - a1 mirrors it
  CHECK(maps.text == std::vector<double>{1, 2});
  CHECK(maps.maximum() == 1);
}

TEST_CASE("attention maps: the golden a2 of the method, section 11") {
  std::vector<double> regions, words;  // T((3,5,4), 1.3), image 0; T((3,4,4), 2.1), text 0
  for (int i = 0; i < 20; ++i) regions.push_back(std::sin(0.37 * (i + 1) + 1.3));
  for (int i = 0; i < 16; ++i) words.push_back(std::sin(0.37 * (i + 1) + 2.1));
  const auto maps = task::attention_maps(x(regions, {5, 4}), x(words, {4, 4}), 4);
  const double expected[] = {.24173732, .23654795, .14264341, .19825451, .18081681};
  for (std::size_t r = 0; r < 5; ++r) CHECK(std::abs(maps.word(0, r) - expected[r]) < 0.5e-8);
}

TEST_CASE(
    "attention maps: a region that suits one word beats regions that suit all words a little") {
  // The second word is that of the third region; the first word suits every region alike.
  const auto maps =
      task::attention_maps(x({1, 0, 1, 0, 1, 3, 1, 0}, {4, 2}), x({1, 0, 0, 1}, {2, 2}), 4);
  CHECK(maps.text == std::vector<double>{1, 1, 3, 1});
  CHECK(maps.maximum() == 2);
  for (std::size_t t = 0; t < 2; ++t) {
    double sum = 0;
    for (std::size_t r = 0; r < 4; ++r) sum += maps.word(t, r);
    CHECK(sum == doctest::Approx(1).epsilon(1e-12));
  }
  CHECK(maps.word(1, 2) > maps.word(1, 0));
}

TEST_CASE("attention maps: similarities below 0, large ones, no words") {
  CHECK(task::attention_maps(x({-1, -2}, {2, 1}), x({1}, {1, 1}), 4).maximum() == 0);
  const auto large = task::attention_maps(x({1e6, -1e6}, {2, 1}), x({1e6, -1e6}, {2, 1}), 40);
  for (double v : large.word) CHECK(std::isfinite(v));
  const auto none = task::attention_maps(x({1, 2}, {2, 1}), x({}, {0, 1}), 4);
  CHECK(none.text == std::vector<double>{0, 0});
  CHECK(none.word.size() == 0);
}

// ---------------------------------------------------------------- cosines, shares, whole words

TEST_CASE("attention maps: the cosine of a word and its context") {
  // One word alone: a1 is 1 everywhere, so a2 is even and the context is the mean of the regions.
  const auto unit = task::attention_maps(x({1, 0, 0, 1}, {2, 2}), x({1, 0}, {1, 2}), 4);
  REQUIRE(unit.cosine.size() == 1);
  CHECK(unit.cosine[0] == doctest::Approx(std::sqrt(0.5)).epsilon(1e-12));
  // (3, 4) and the context (2.5, 2.5): 17.5 / (5 * 2.5 * sqrt(2)); lengths do not count.
  const auto longer = task::attention_maps(x({5, 0, 0, 5}, {2, 2}), x({3, 4}, {1, 2}), 4);
  REQUIRE(longer.cosine.size() == 1);
  CHECK(longer.cosine[0] == doctest::Approx(1.4 / std::sqrt(2.)).epsilon(1e-12));
  const auto against = task::attention_maps(x({-1, -2}, {2, 1}), x({1}, {1, 1}), 4);
  REQUIRE(against.cosine.size() == 1);
  CHECK(against.cosine[0] == doctest::Approx(-1).epsilon(1e-12));
}

TEST_CASE("attention maps: each word has a context of its own") {
  // Words and regions are (1, 0) and (0, 1): a1 is e / (e + 1) or 1 / (e + 1), they differ by
  // tanh(1/2), so a2 is sigmoid(4 tanh(1/2)) where word and region agree.
  const auto maps = task::attention_maps(x({1, 0, 0, 1}, {2, 2}), x({1, 0, 0, 1}, {2, 2}), 4);
  const double a = 1 / (1 + std::exp(-4 * std::tanh(0.5)));
  REQUIRE(maps.cosine.size() == 2);
  for (const double c : maps.cosine)
    CHECK(c == doctest::Approx(a / std::hypot(a, 1 - a)).epsilon(1e-12));
  // Three regions, the second word opposite to the third: the cosine from the map itself.
  const std::vector<double> regions = {1, 2, 3, -1, 0.5, -2};
  const std::vector<double> words = {2, 1, -1, 1};
  const auto uneven = task::attention_maps(x(regions, {3, 2}), x(words, {2, 2}), 3);
  REQUIRE(uneven.cosine.size() == 2);
  for (std::size_t t = 0; t < 2; ++t) {
    double u = 0;
    double v = 0;
    for (std::size_t r = 0; r < 3; ++r) {
      u += uneven.word(t, r) * regions[2 * r];
      v += uneven.word(t, r) * regions[2 * r + 1];
    }
    const double dot = u * words[2 * t] + v * words[2 * t + 1];
    const double lengths = std::hypot(u, v) * std::hypot(words[2 * t], words[2 * t + 1]);
    CHECK(uneven.cosine[t] == doctest::Approx(dot / lengths).epsilon(1e-12));
  }
}

namespace {

/// Maps of words over two regions; one cosine and one value of the first region for each word.
task::AttentionMaps maps_of(const std::vector<double>& cosine, const std::vector<double>& first) {
  task::AttentionMaps maps;
  maps.cosine = cosine;
  maps.word = xt::xtensor<double, 2>::from_shape({first.size(), std::size_t{2}});
  for (std::size_t t = 0; t < first.size(); ++t) {
    maps.word(t, 0) = first[t];
    maps.word(t, 1) = 1 - first[t];
  }
  maps.text = {0.25, 0.5};
  return maps;
}

/// The vocabulary of the tests below.
std::string piece(std::int32_t id) {
  const std::vector<std::string> all = {"card", "##io", "##megaly", ".", "clear", "##s"};
  return all.at(static_cast<std::size_t>(id));
}

}  // namespace

TEST_CASE("attention maps: shares are the softmax of the cosines") {
  const auto two = maps_of({0.5, 0.25}, {1, 1}).shares(4);  // softmax(2, 1)
  REQUIRE(two.size() == 2);
  CHECK(two[0] == doctest::Approx(0.7310585786300049).epsilon(1e-12));
  CHECK(two[1] == doctest::Approx(0.2689414213699951).epsilon(1e-12));
  const auto three = maps_of({-0.5, 0, 0.5}, {1, 1, 1}).shares(2 * std::log(2.));  // 1 : 2 : 4
  REQUIRE(three.size() == 3);
  for (std::size_t t = 0; t < 3; ++t)
    CHECK(three[t] == doctest::Approx(std::exp2(static_cast<double>(t)) / 7).epsilon(1e-12));
  const auto even = maps_of({1, -1, 0.3, 0}, {1, 1, 1, 1}).shares(0);
  REQUIRE(even.size() == 4);
  for (const double s : even) CHECK(s == doctest::Approx(0.25).epsilon(1e-12));
  const auto sharp = maps_of({-1, 1, 0.5}, {1, 1, 1}).shares(5000);  // exp(5000) is infinite
  REQUIRE(sharp.size() == 3);
  CHECK(sharp[1] == doctest::Approx(1).epsilon(1e-12));
  CHECK(sharp[0] + sharp[1] + sharp[2] == doctest::Approx(1).epsilon(1e-12));
  CHECK(maps_of({}, {}).shares(5).empty());
  CHECK(maps_of({-0.9}, {1}).shares(5) == std::vector<double>{1});
}

TEST_CASE("words of several pieces: spelled together, shares summed, cosines and maps averaged") {
  // Shares at this gamma2 are 1 : 2 : 4 : 8 : 1 of 16.
  const auto maps = maps_of({0, 0.1, 0.2, 0.3, 0}, {0.9, 0.3, 0.6, 0.2, 0.5});
  const auto words = task::word_maps(maps, {0, 1, 2, 3, 4}, 10 * std::log(2.), piece);
  REQUIRE(words.size() == 3);
  CHECK(words[0].word == "cardiomegaly");
  CHECK(words[0].share == doctest::Approx(7. / 16).epsilon(1e-12));
  CHECK(words[0].cosine == doctest::Approx(0.1).epsilon(1e-12));
  REQUIRE(words[0].map.size() == 2);
  CHECK(words[0].map[0] == doctest::Approx(0.6).epsilon(1e-12));
  CHECK(words[0].map[1] == doctest::Approx(0.4).epsilon(1e-12));
  CHECK(words[1].word == ".");
  CHECK(words[1].share == doctest::Approx(0.5).epsilon(1e-12));
  CHECK(words[1].cosine == doctest::Approx(0.3).epsilon(1e-12));
  REQUIRE(words[1].map.size() == 2);
  CHECK(words[1].map[0] == doctest::Approx(0.2).epsilon(1e-12));
  CHECK(words[2].word == "clear");
  CHECK(words[2].share == doctest::Approx(1. / 16).epsilon(1e-12));
  CHECK(words[2].map[0] + words[2].map[1] == doctest::Approx(1).epsilon(1e-12));
}

TEST_CASE("words of several pieces: the last word, the same word twice, a piece at the start") {
  const auto last = task::word_maps(maps_of({0, 0.5, 1}, {1, 0, 0.5}), {3, 4, 5}, 1, piece);
  REQUIRE(last.size() == 2);
  CHECK(last[0].word == ".");
  CHECK(last[1].word == "clears");
  CHECK(last[1].cosine == doctest::Approx(0.75).epsilon(1e-12));
  CHECK(last[1].map[0] == doctest::Approx(0.25).epsilon(1e-12));
  CHECK(last[0].share + last[1].share == doctest::Approx(1).epsilon(1e-12));
  const auto twice = task::word_maps(maps_of({0, 0}, {1, 0}), {4, 4}, 1, piece);
  REQUIRE(twice.size() == 2);  // words are places in the text, not spellings
  CHECK(twice[0].map[0] == 1);
  CHECK(twice[1].map[0] == 0);
  const auto start = task::word_maps(maps_of({0.2, 0.4}, {1, 0}), {1, 4}, 1, piece);
  REQUIRE(start.size() == 2);
  CHECK(start[0].word == "##io");
  CHECK(start[0].cosine == doctest::Approx(0.2).epsilon(1e-12));
  CHECK(start[1].word == "clear");
  CHECK(task::word_maps(maps_of({}, {}), {}, 1, piece).empty());
}

TEST_CASE("words of several pieces: another number of tokens than words is an error") {
  const auto maps = maps_of({0, 0.5}, {1, 0});
  CHECK(test::error_of([&] { task::word_maps(maps, {0}, 1, piece); }) != "");
  CHECK(test::error_of([&] { task::word_maps(maps, {0, 1, 2}, 1, piece); }) != "");
  CHECK(test::error_of([&] { task::word_maps(maps, {}, 1, piece); }) != "");
  CHECK(test::error_of([&] { task::word_maps(maps, {0, 1}, 1, piece); }) == "");
}

TEST_CASE("stop words are punctuation and function words, and no word that carries a finding") {
  for (const char* word : {"the", "is", "there", "in", "of", "a", "and", ".", ",", ":", "(", "-"}) {
    CAPTURE(word);
    CHECK(task::is_stop_word(word));
  }
  for (const char* word : {"no", "not", "without", "nodule", "left", "heart", "clear", "island"}) {
    CAPTURE(word);
    CHECK_FALSE(task::is_stop_word(word));
  }
}

TEST_CASE("attention maps stay finite at the largest gamma that a configuration takes") {
  const auto maps =
      task::attention_maps(x({1, 2, 3, 0, 1, 1}, {3, 2}), x({1, 0, 0, 1}, {2, 2}), 1e4);
  for (std::size_t t = 0; t < 2; ++t) {
    double sum = 0;
    for (std::size_t r = 0; r < 3; ++r) sum += maps.word(t, r);
    CHECK(sum == doctest::Approx(1));
  }
  double shares = 0;
  for (const double s : maps.shares(1e4)) shares += s;
  CHECK(shares == doctest::Approx(1));
}
