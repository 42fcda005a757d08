#pragma once
// Zero-shot classification from prompts (method 6): per label the best positive prompt minus the best negative one, by
// global cosine, by local score, or by their mean.
#include "hybridmed/io/json.hpp"
#include "hybridmed/task/embed.hpp"

namespace hybridmed::task {

struct LabelPrompts {
  std::string label;
  std::vector<std::string> positive, negative;
};

/// {"label": {"positive": ["..."], "negative": ["..."]}, ...}
inline std::vector<LabelPrompts> read_prompts(const std::filesystem::path& path) {
  const io::Json j = io::read_json(path);
  std::vector<LabelPrompts> out;
  if (!j.is_object() || j.empty()) fail("task", "prompts", path.string() + ": expected an object {label: {positive: [...], negative: [...]}}");
  for (const auto& [label, p] : j.items()) {
    out.push_back({label, io::get<std::vector<std::string>>(p, "positive", path.string() + ", label '" + label + "'"),
                   io::get<std::vector<std::string>>(p, "negative", path.string() + ", label '" + label + "'")});
    if (out.back().positive.empty() || out.back().negative.empty()) fail("task", "prompts", path.string() + ", label '" + label + "': needs at least one positive and one negative prompt");
  }
  return out;
}

/// Scores (images, labels) of each kind.
struct ZeroShotScores {
  xt::xtensor<double, 2> global, local, both;
};

template <class T, class B, class M>
ZeroShotScores zero_shot(const M& model, const data::WordPiece& vocabulary, data::Cleaning cleaning, const std::vector<LabelPrompts>& prompts, const Embeddings<T, B>& e) {
  std::vector<std::string> texts;
  for (const auto& p : prompts) {
    texts.insert(texts.end(), p.positive.begin(), p.positive.end());
    texts.insert(texts.end(), p.negative.begin(), p.negative.end());
  }
  const auto encoded = encode_texts<T, B>(model, vocabulary, texts, cleaning);
  const auto g = cosines(e.image, encoded.global);
  const auto l = local_similarity(e.regions, model.aggregator.grid * model.aggregator.grid, encoded, model.config.gamma1, model.config.gamma2);
  const std::size_t n = e.image.shape()[0];
  const auto empty = xt::xtensor<double, 2>::from_shape({n, prompts.size()});
  ZeroShotScores s{empty, empty, empty};
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t at = 0;
    for (std::size_t k = 0; k < prompts.size(); ++k) {
      double best[2][2] = {{-1e300, -1e300}, {-1e300, -1e300}};  // [positive, negative][global, local]
      for (int side = 0; side < 2; ++side)
        for (std::size_t p = 0; p < (side ? prompts[k].negative : prompts[k].positive).size(); ++p, ++at)
          best[side][0] = (std::max)(best[side][0], g(i, at)), best[side][1] = (std::max)(best[side][1], l(i, at));
      s.global(i, k) = best[0][0] - best[1][0];
      s.local(i, k) = best[0][1] - best[1][1];
      s.both(i, k) = 0.5 * (s.global(i, k) + s.local(i, k));
    }
  }
  return s;
}

}  // namespace hybridmed::task
