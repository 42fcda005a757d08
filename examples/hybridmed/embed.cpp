// Global embeddings of images, or of texts.
#include "run.hpp"

namespace hybridmed::app {

static std::string read_texts(const std::string& file) {
  try {
    return data::read_text_file(file);
  } catch (const Error& e) {
    fail("app", "embed", e.reason(), "convert it first, e.g. with: iconv -f LATIN1 -t UTF-8");
  }
}

int run_embed(const Common& common, const EmbedOptions& o) {
  if (o.images.empty() == o.texts.empty())
    fail("app", "embed", o.images.empty() ? "nothing to embed" : "images and --texts at once",
         "give images, or --texts FILE with a text a line");
  std::vector<std::string> texts;
  if (!o.texts.empty()) {
    const std::string all = read_texts(o.texts);
    for (std::size_t at = 0; at < all.size();) {  // lines end with \n, \r\n, or \r alone
      const std::size_t end = (std::min)(all.find_first_of("\r\n", at), all.size());
      texts.push_back(all.substr(at, end - at));
      at = end + (all.compare(end, 2, "\r\n") == 0 ? 2 : 1);
    }
    if (texts.empty()) fail("app", "embed", o.texts + ": no text");
  }
  const Run run = open_run(common, o.run);
  for (std::size_t i = 0; i < texts.size(); ++i)
    if (!data::has_words(data::clean_text(texts[i], run.cleaning())))
      fail("app", "embed",
           o.texts + ", line " + std::to_string(i + 1) + ": no words after cleaning",
           "take the line out");
  std::cout << (texts.empty() ? "image" : "text");
  for (Index k = 0; k < run.config.model.d_e; ++k) std::cout << ",e" << k;
  std::cout << "\n";
  const auto row = [](const std::string& name, const xt::xtensor<double, 2>& e, std::size_t i) {
    std::cout << data::csv_field(name);
    for (std::size_t k = 0; k < e.shape()[1]; ++k) std::cout << "," << e(i, k);
    std::cout << "\n";
  };
  for (std::size_t i = 0; i < texts.size(); i += 64) {  // as many at once as fit any memory
    const std::vector<std::string> part(
        texts.begin() + static_cast<std::ptrdiff_t>(i),
        texts.begin() + static_cast<std::ptrdiff_t>((std::min)(texts.size(), i + 64)));
    const EncodedTexts encoded = encode_texts(run, part, "the texts");
    for (std::size_t k = 0; k < part.size(); ++k) row(part[k], encoded.global, k);
  }
  return in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto e = run.model->embed_images(images);
    for (std::size_t i = 0; i < paths.size(); ++i) row(paths[i], e.image, i);
  });
}

}  // namespace hybridmed::app
