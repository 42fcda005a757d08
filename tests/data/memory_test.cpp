// Studies and pictures in memory: no folder is needed.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/loader.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

namespace {

constexpr std::size_t width = 20;
constexpr std::size_t height = 12;

/// A picture that no turn, mirror or shift leaves as it is.
std::vector<std::uint8_t> pixels_of(std::size_t seed) {
  std::vector<std::uint8_t> out;
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      out.push_back(static_cast<std::uint8_t>((seed * 50 + 7 * x + 3 * y * y) % 256));
    }
  }
  return out;
}

Image picture(const std::vector<std::uint8_t>& pixels, std::size_t h, std::size_t w) {
  Image image;
  image.bits = 8;
  image.pixels.resize({h, w});
  for (std::size_t y = 0; y < h; ++y) {
    for (std::size_t x = 0; x < w; ++x) {
      image.pixels(y, x) = pixels[y * w + x];
    }
  }
  return image;
}

Image even(std::uint16_t value, int bits) {
  Image image;
  image.bits = bits;
  image.pixels.resize({std::size_t{8}, std::size_t{8}});
  image.pixels.fill(value);
  return image;
}

DatasetOptions small_options() {
  DatasetOptions o;
  o.transform.image_size = 8;
  o.transform.resize = 10;
  o.t_findings = 16;
  o.t_impression = 8;
  return o;
}

/// Crops have no room: the batch is the whole picture.
DatasetOptions whole_options() {
  DatasetOptions o = small_options();
  o.transform.resize = 8;
  return o;
}

WordPiece small_vocabulary() {
  const std::vector<std::string> texts{"the lungs are clear.", "large heart.", "normal chest.",
                                       "no edema."};
  return train_wordpiece(texts, 150);
}

std::vector<float> floats(const HostBatch& b) { return {b.images.begin(), b.images.end()}; }

}  // namespace

TEST_CASE("studies in memory give the batches of the same pictures and texts in a folder") {
  const ScratchFolder f;
  f.write("studies.csv",
          "study_id,frontal_images,findings,impression\n"
          "s1,a.png,The lungs are CLEAR.,Normal chest.\n"
          "s2,b.png,,Large heart.\n"
          "s3,c.png;a.png,No edema.,\n");
  std::filesystem::create_directories(f.path / "images");
  std::map<std::string, Image> pictures;
  for (const std::size_t k : {0, 1, 2}) {
    const std::string name = std::string(1, static_cast<char>('a' + k)) + ".png";
    const std::vector<std::uint8_t> pixels = pixels_of(k);
    write_png(f.path / "images" / name, pixels.data(), width, height, 1);
    pictures[name] = picture(pixels, height, width);
  }
  const WordPiece vocabulary = small_vocabulary();
  const DataFolder folder(f.path);
  const Dataset written(folder, folder.select({}), vocabulary, small_options());
  const std::vector<Study> studies{
      make_study("s1", {"a.png"}, "The lungs are CLEAR.", "Normal chest."),
      make_study("s2", {"b.png"}, "", "Large heart."),
      make_study("s3", {"c.png", "a.png"}, "No edema.", "")};
  CHECK(studies[0].findings == "the lungs are clear.");
  CHECK(studies[0].images == std::vector<std::string>{"a.png"});
  CHECK(studies[1].findings.empty());
  const ReadImage read = [&](const std::string& name) { return pictures.at(name); };
  const Dataset memory(studies, vocabulary, small_options(), read);
  REQUIRE(memory.size() == 3);

  Loader from_folder(written, LoaderOptions{.batch = 2}, Philox(), 0);
  Loader from_memory(memory, LoaderOptions{.batch = 2}, Philox(), 0);
  for (const std::size_t size : {2, 1}) {
    const std::optional<HostBatch> a = from_folder.next();
    const std::optional<HostBatch> b = from_memory.next();
    REQUIRE(a.has_value());
    REQUIRE(b.has_value());
    REQUIRE(b->studies.size() == size);
    CHECK(b->images.shape()[0] == size);
    CHECK(b->images.shape()[1] == 8);
    CHECK(b->images.shape()[2] == 8);
    CHECK(a->studies == b->studies);
    CHECK(floats(*a) == floats(*b));
    CHECK(a->findings == b->findings);
    CHECK(a->findings_offsets == b->findings_offsets);
    CHECK(a->impression == b->impression);
    CHECK(a->impression_offsets == b->impression_offsets);
    CHECK(a->keys == b->keys);
  }
  CHECK_FALSE(from_folder.next().has_value());
  CHECK_FALSE(from_memory.next().has_value());
}

TEST_CASE("pictures in memory of 8 and of 16 bits have the range -1 to 1") {
  const std::map<std::string, Image> pictures{{"black", even(0, 8)},
                                              {"fifth", even(51, 8)},
                                              {"white", even(255, 8)},
                                              {"deep fifth", even(13107, 16)},
                                              {"deep white", even(65535, 16)}};
  const std::vector<std::pair<std::string, float>> want{{"black", -1.0f},
                                                        {"fifth", -0.6f},
                                                        {"white", 1.0f},
                                                        {"deep fifth", -0.6f},
                                                        {"deep white", 1.0f}};
  std::vector<Study> studies;
  for (const auto& [name, value] : want) {
    studies.push_back(make_study("study of " + name, {name}, "Large heart.", "Normal chest."));
  }
  const WordPiece vocabulary = small_vocabulary();
  const ReadImage read = [&](const std::string& name) { return pictures.at(name); };
  const Dataset dataset(studies, vocabulary, whole_options(), read);
  const HostBatch batch = dataset.batch({0, 1, 2, 3, 4}, nullptr);
  for (std::size_t k = 0; k < want.size(); ++k) {
    CAPTURE(want[k].first);
    CHECK(batch.images(k, 0, 0) == doctest::Approx(want[k].second).epsilon(1e-5));
    CHECK(batch.images(k, 4, 3) == doctest::Approx(want[k].second).epsilon(1e-5));
    CHECK(batch.images(k, 7, 7) == doctest::Approx(want[k].second).epsilon(1e-5));
  }
}

TEST_CASE("a study in memory is cleaned as it is told") {
  const std::string text = "The HEART is Large.";
  CHECK(make_study("s", {"a"}, text, "").findings == "the heart is large.");
  CHECK(make_study("s", {"a"}, text, "", Cleaning::none).findings == text);
  CHECK(make_study("s", {"a"}, text, "").raw_findings == text);
  CHECK(make_study("s", {"a"}, "", "Normal.").impression == "normal.");
}

TEST_CASE("an error of the reader names the study and the source, and the next batch is read") {
  const std::vector<Study> studies{make_study("first", {"a"}, "Large heart.", "Normal chest."),
                                   make_study("second", {"b"}, "Large heart.", "Normal chest."),
                                   make_study("third", {"c"}, "Large heart.", "Normal chest.")};
  const WordPiece vocabulary = small_vocabulary();
  const ReadImage read = [](const std::string& name) {
    if (name == "b") {
      throw Error("archive", "read", "the volume is closed");
    }
    return even(255, 8);
  };
  for (const std::string source : {"memory", "the PACS export"}) {
    CAPTURE(source);
    const DatasetOptions o = whole_options();
    const bool named = source != "memory";
    const Dataset dataset = named ? Dataset(studies, vocabulary, o, read, source)
                                  : Dataset(studies, vocabulary, o, read);
    Loader loader(dataset, LoaderOptions{.batch = 1}, Philox(), 0);
    const std::optional<HostBatch> first = loader.next();
    REQUIRE(first.has_value());
    CHECK(first->images(0, 0, 0) == doctest::Approx(1.0));
    const std::string e = error_of([&] { loader.next(); });
    CHECK_MESSAGE(holds(e, "second"), e);
    CHECK_MESSAGE(holds(e, source), e);
    CHECK_MESSAGE(holds(e, "the volume is closed"), e);
    const std::optional<HostBatch> third = loader.next();
    REQUIRE(third.has_value());
    CHECK(third->studies == std::vector<std::size_t>{2});
    CHECK_FALSE(loader.next().has_value());
  }
}

TEST_CASE("an empty function that should read images is an error") {
  const std::vector<Study> studies{make_study("s1", {"a"}, "Large heart.", "Normal chest.")};
  const WordPiece vocabulary = small_vocabulary();
  const std::string e = error_of([&] {
    const Dataset dataset(studies, vocabulary, whole_options(), ReadImage{});
    dataset.batch({0}, nullptr);
  });
  CHECK_MESSAGE(holds(e, "[hybridmed.data]"), e);
}

TEST_CASE("a picture in memory whose values do not fit its depth is refused") {
  Image image;
  image.pixels = xt::xtensor<std::uint16_t, 2>::from_shape({4, 4});
  image.pixels.fill(4095);
  CHECK(holds(error_of([&] { make_square(image, 8); }), "value of 4095"));
  image.bits = 12;
  CHECK(holds(error_of([&] { preview(image); }), "8 or 16 bits"));
}
