// Maps of words and of a text, by hand.
#include <doctest/doctest.h>

#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/task/attention_map.hpp"

using namespace hybridmed;
using X = Tensor<double, CpuBackend>;

static X x(const std::vector<double>& values, const Shape& shape) { return X::from_host(values, shape); }

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

TEST_CASE("attention maps: a region that suits one word beats regions that suit all words a little") {
  // The second word is that of the third region; the first word suits every region alike.
  const auto maps = task::attention_maps(x({1, 0, 1, 0, 1, 3, 1, 0}, {4, 2}), x({1, 0, 0, 1}, {2, 2}), 4);
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
