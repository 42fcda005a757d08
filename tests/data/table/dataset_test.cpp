// A batch of a data set: sections, keys and pictures of its studies.
#include <doctest/doctest.h>

#include <map>

#include "corpus.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

TEST_CASE("a batch holds the studies' sections, keys and centre crops") {
  const Corpus c;
  const Dataset d = c.dataset();
  REQUIRE(d.size() == 23);
  const HostBatch b = d.batch({3, 0, 7}, nullptr);
  CHECK(b.studies == std::vector<std::size_t>{3, 0, 7});
  REQUIRE(b.images.shape()[0] == 3);
  REQUIRE(b.images.shape()[1] == 14);
  REQUIRE(b.images.shape()[2] == 14);
  REQUIRE(b.findings_offsets.size() == 4);
  REQUIRE(b.impression_offsets.size() == 4);
  CHECK((b.findings_offsets[0] == 0 && b.impression_offsets[0] == 0));
  CHECK(b.findings_offsets[3] == static_cast<std::int32_t>(b.findings.size()));
  for (std::size_t k = 0; k < 3; ++k) {
    const std::size_t i = b.studies[k];
    const Study& s = d.study(i);
    CHECK(std::vector<std::int32_t>(b.findings.begin() + b.findings_offsets[k],
                                    b.findings.begin() + b.findings_offsets[k + 1]) ==
          c.vocabulary.encode_section(s.findings, 20));
    CHECK(std::vector<std::int32_t>(b.impression.begin() + b.impression_offsets[k],
                                    b.impression.begin() + b.impression_offsets[k + 1]) ==
          c.vocabulary.encode_section(s.impression, 8));
    const Square square = make_square(read_image(c.folder->image_path(s.images[0])), 16);
    float worst = 0;
    for (std::size_t y = 0; y < 14; ++y)
      for (std::size_t x = 0; x < 14; ++x)
        worst = std::max(
            worst, std::abs(b.images(k, y, x) - (square.bytes[(y + 1) * 16 + x + 1] / 127.5f - 1)));
    CHECK(worst < 1e-6f);
  }
  // Equal cleaned impressions share a key, different ones do not.
  for (std::size_t i = 0; i < d.size(); ++i)
    for (std::size_t j = 0; j < d.size(); ++j)
      CHECK((d.key(i) == d.key(j)) == (d.study(i).impression == d.study(j).impression));
  // An absent section has no tokens.
  std::size_t absent = 0;
  for (std::size_t i = 0; i < d.size(); ++i) {
    absent += d.findings(i).empty() + d.impression(i).empty();
    CHECK(d.findings(i).empty() == d.study(i).findings.empty());
  }
  CHECK(absent > 0);
  CHECK(d.batch({0, 1}, nullptr, false).images.size() == 0);  // text only
}

TEST_CASE("several frontal images: the first in evaluation, a seeded choice in training") {
  const Corpus c;
  const Dataset d = c.dataset();
  const auto first = d.batch({4}, nullptr);
  Corpus single;
  single.studies[4].images = {"phantom4.png"};
  CHECK(equal(first, single.dataset().batch({4}, nullptr)));
  // Which picture it was: compare with each alone under the same random numbers.
  std::map<std::size_t, int> chosen;
  for (std::uint64_t k = 0; k < 60; ++k) {
    const Philox random(9, k);
    const auto b = d.batch({4}, &random);
    CHECK(equal(b, d.batch({4}, &random)));
    for (std::size_t i = 0; i < 3; ++i) {
      single.studies[4].images = {"phantom" + std::to_string(4 + i) + ".png"};
      if (equal(b, single.dataset().batch({4}, &random))) ++chosen[i];
    }
  }
  CHECK(chosen.size() == 3);
  CHECK(chosen[0] + chosen[1] + chosen[2] == 60);
  for (const auto& [i, n] : chosen) CHECK(n > 8);
}
