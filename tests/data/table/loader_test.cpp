// The loader: order, batches, workers, and pictures that are damaged.
#include <doctest/doctest.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <set>
#include <thread>

#include "corpus.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

std::vector<HostBatch> all(Loader& loader) {
  std::vector<HostBatch> out;
  while (auto b = loader.next()) out.push_back(std::move(*b));
  CHECK(!loader.next().has_value());  // the end stays the end
  return out;
}
std::vector<HostBatch> epoch_of(const Dataset& d, LoaderOptions o, std::uint64_t seed,
                                std::uint64_t epoch, std::size_t first = 0) {
  Loader loader(d, o, Philox(seed), epoch, first);
  return all(loader);
}

}  // namespace

TEST_CASE("batches do not depend on the number of workers or on the cache") {
  const Corpus c;
  const Dataset d = c.dataset();
  for (bool shuffle : {false, true}) {
    CAPTURE(shuffle);
    const auto expected = epoch_of(d, {.batch = 4, .shuffle = shuffle, .workers = 0}, 1, 2);
    CHECK(expected.size() == 6);
    CHECK(expected.back().studies.size() == 3);
    for (int workers : {1, 2, 4}) {
      CAPTURE(workers);
      CHECK(
          equal(epoch_of(d, {.batch = 4, .shuffle = shuffle, .workers = workers}, 1, 2), expected));
      CHECK(
          equal(epoch_of(c.dataset(0), {.batch = 4, .shuffle = shuffle, .workers = workers}, 1, 2),
                expected));  // nothing kept
      CHECK(equal(
          epoch_of(c.dataset(600), {.batch = 4, .shuffle = shuffle, .workers = workers}, 1, 2),
          expected));  // two squares kept
    }
  }
}

TEST_CASE("shuffling is a permutation that depends on seed and epoch alone") {
  const Corpus c;
  const Dataset d = c.dataset();
  const LoaderOptions o{.batch = 5, .shuffle = true, .workers = 2};
  const auto order = [&](std::uint64_t seed, std::uint64_t epoch) {
    std::vector<std::size_t> out;
    for (const auto& b : epoch_of(d, o, seed, epoch))
      out.insert(out.end(), b.studies.begin(), b.studies.end());
    return out;
  };
  const auto a = order(1, 0);
  CHECK(a.size() == 23);
  CHECK(std::set<std::size_t>(a.begin(), a.end()).size() == 23);
  CHECK(!std::is_sorted(a.begin(), a.end()));
  CHECK(order(1, 0) == a);
  CHECK(order(1, 1) != a);
  CHECK(order(2, 0) != a);
  CHECK(equal(epoch_of(d, o, 1, 0), epoch_of(d, o, 1, 0)));
  const auto plain = epoch_of(d, {.batch = 23, .shuffle = false, .workers = 1}, 1, 0);
  REQUIRE(plain.size() == 1);
  CHECK(std::is_sorted(plain[0].studies.begin(), plain[0].studies.end()));
  // A study's crop is another one in the next epoch, whatever its place in the order.
  const auto crop_of = [&](std::uint64_t epoch, std::size_t study) {
    for (const auto& b : epoch_of(d, o, 1, epoch))
      for (std::size_t k = 0; k < b.studies.size(); ++k)
        if (b.studies[k] == study)
          return std::vector<float>(b.images.begin() + static_cast<std::ptrdiff_t>(k * 196),
                                    b.images.begin() + static_cast<std::ptrdiff_t>((k + 1) * 196));
    return std::vector<float>();
  };
  CHECK(crop_of(0, 3) != crop_of(1, 3));
  // Fisher-Yates is fair: over many seeds each value comes first about equally often.
  std::vector<int> firsts(5);
  for (std::uint64_t s = 0; s < 2000; ++s) ++firsts[shuffled(5, Philox(s))[0]];
  for (int n : firsts) CHECK((n > 320 && n < 480));
}

TEST_CASE("starting at batch k equals skipping k batches") {
  const Corpus c;
  const Dataset d = c.dataset();
  for (int workers : {0, 1, 3}) {
    const LoaderOptions o{.batch = 4, .shuffle = true, .workers = workers};
    const auto whole = epoch_of(d, o, 5, 1);
    for (std::size_t first = 0; first <= whole.size() + 1; ++first) {
      const auto rest = epoch_of(d, o, 5, 1, first);
      CHECK(equal(rest, std::vector<HostBatch>(whole.begin() + static_cast<std::ptrdiff_t>(
                                                                   std::min(first, whole.size())),
                                               whole.end())));
    }
  }
}

TEST_CASE("drop_last, batch sizes and empty datasets") {
  const Corpus c;
  const Dataset d = c.dataset();
  CHECK(Loader(d, {.batch = 4, .drop_last = true}, Philox(0), 0).batches() == 5);
  CHECK(Loader(d, {.batch = 4, .drop_last = false}, Philox(0), 0).batches() == 6);
  CHECK(epoch_of(d, {.batch = 4, .drop_last = true, .workers = 2}, 0, 0).size() == 5);
  CHECK(epoch_of(d, {.batch = 23, .drop_last = true}, 0, 0).size() == 1);
  CHECK(epoch_of(d, {.batch = 24, .drop_last = true}, 0, 0).empty());
  CHECK(epoch_of(d, {.batch = 1000}, 0, 0).size() == 1);
  CHECK(epoch_of(d, {.batch = 1}, 0, 0).size() == 23);
  const auto texts = epoch_of(d, {.batch = 4, .workers = 2, .images = false}, 0, 0),
             pictures = epoch_of(d, {.batch = 4, .workers = 2}, 0, 0);
  REQUIRE(texts.size() == 6);
  for (std::size_t k = 0; k < 6; ++k)
    CHECK((texts[k].images.size() == 0 &&
           pictures[k].images.size() == pictures[k].studies.size() * 196 &&
           texts[k].impression == pictures[k].impression));
  CHECK_THROWS_AS(Loader(d, {.batch = 0}, Philox(0), 0), Error);
  Corpus none;
  none.studies.clear();
  CHECK(epoch_of(none.dataset(), {.batch = 4, .workers = 2}, 0, 0).empty());
}

TEST_CASE("a missing or damaged picture throws at its own batch, in the caller, naming the file") {
  const Corpus c;
  const fs::path gone = c.files.path / "images" / "phantom13.png",
                 damaged = c.files.path / "images" / "phantom21.png";
  fs::remove(gone);
  std::ofstream(damaged) << "no picture";
  const Dataset d = c.dataset();
  for (int workers : {0, 1, 2, 4}) {
    CAPTURE(workers);
    Loader loader(d, {.batch = 4, .workers = workers}, Philox(0), 0);
    for (int k = 0; k < 6; ++k) {
      CAPTURE(k);
      std::optional<HostBatch> b;
      const std::string e = error_of([&] { b = loader.next(); });
      if (k == 3)
        CHECK_MESSAGE(holds(e, gone.string()), e);  // studies 12..15
      else if (k == 5)
        CHECK_MESSAGE(holds(e, damaged.string()), e);  // studies 20..22
      else
        CHECK_MESSAGE(
            (e.empty() && b.has_value() && b->studies[0] == static_cast<std::size_t>(4 * k)), e);
    }
    CHECK(!loader.next().has_value());
  }
  // A study without pictures is an error that names it.
  Corpus bare;
  bare.studies[2].images.clear();
  const Dataset nothing = bare.dataset();
  const std::string e = error_of([&] { nothing.batch({2}, nullptr); });
  CHECK_MESSAGE(holds(e, bare.studies[2].id), e);
}

TEST_CASE("a loader can be left at any time") {
  const Corpus c;
  const Dataset d = c.dataset();
  const auto start = std::chrono::steady_clock::now();
  for (int workers : {0, 1, 2, 4})
    for (int taken = 0; taken <= 7; ++taken)
      for (int wait : {0, 1}) {
        Loader loader(d, {.batch = 4, .shuffle = true, .workers = workers}, Philox(0), 0);
        for (int k = 0; k < taken; ++k) loader.next();
        if (wait)
          std::this_thread::sleep_for(std::chrono::milliseconds(2));  // workers then wait for room
      }
  fs::remove(c.files.path / "images" / "phantom1.png");
  const Dataset broken = c.dataset(0);
  for (int k = 0; k < 20; ++k)
    Loader loader(broken, {.batch = 1, .workers = 3}, Philox(0), 0);  // errors that nobody collects
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}
