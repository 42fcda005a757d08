#pragma once
// A data set of phantoms, and batches compared.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/dataset.hpp"
#include "hybridmed/data/loader.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/data/studies.hpp"

namespace hybridmed::test {

/// A small phantom corpus, one study with three frontal images among them.
struct Corpus {
  ScratchFolder files;
  std::unique_ptr<data::DataFolder> folder;
  data::WordPiece vocabulary;
  std::vector<data::Study> studies;

  explicit Corpus(std::size_t count = 23) {
    data::PhantomOptions o;
    o.count = count;
    o.side = 20;
    o.valid = 0;
    o.test = 0;
    o.missing = 0.3;
    data::write_phantoms(files.path, o);
    folder = std::make_unique<data::DataFolder>(files.path);
    studies = folder->select({});
    std::vector<std::string> texts;
    for (const auto& s : studies) {
      texts.push_back(s.findings);
      texts.push_back(s.impression);
    }
    vocabulary = data::train_wordpiece(texts, 150);
    studies[4].images = {"phantom4.png", "phantom5.png", "phantom6.png"};
  }
  data::Dataset dataset(std::size_t cache_bytes = std::size_t{1} << 30) const {
    data::DatasetOptions o;
    o.transform.image_size = 14;
    o.transform.resize = 16;
    o.transform.jitter_brightness = 0.1;
    o.transform.jitter_contrast = 0.2;
    o.t_findings = 20;
    o.t_impression = 8;
    o.cache_bytes = cache_bytes;
    return data::Dataset(*folder, studies, vocabulary, o);
  }
};

inline bool equal(const data::HostBatch& a, const data::HostBatch& b) {
  return a.studies == b.studies && a.findings == b.findings && a.impression == b.impression &&
         a.findings_offsets == b.findings_offsets && a.impression_offsets == b.impression_offsets &&
         a.keys == b.keys && a.images.shape() == b.images.shape() &&
         std::equal(a.images.begin(), a.images.end(), b.images.begin());
}
inline bool equal(const std::vector<data::HostBatch>& a, const std::vector<data::HostBatch>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!equal(a[i], b[i])) return false;
  return true;
}

}  // namespace hybridmed::test
