#pragma once
// Zero-shot classification from prompts (method 6): per label the positive prompts minus the
// negative ones, by global cosine, by local score, or by their mean.
#include "hybridmed/io/json.hpp"
#include "hybridmed/task/embed.hpp"

namespace hybridmed::task {

/// How the prompts of one side become one score: the best of them (GLoRIA), fit where each names
/// another place or kind; or their mean (CXR-CLIP), fit where they say the same in other words: it
/// depends less on what one sentence happens to mean.
enum class PromptEnsemble { max, mean };

struct LabelPrompts {
  std::string label;
  std::vector<std::string> positive, negative;
  PromptEnsemble ensemble = PromptEnsemble::max;
  std::string file = {};  ///< where it was read, for errors

  /// "FILE, label 'x'".
  std::string place() const { return (file.empty() ? "" : file + ", ") + "label '" + label + "'"; }
};

/// What a prompt file's "mean_of" names; see below.
inline std::vector<std::string> read_mean_of(const std::filesystem::path& path, const io::Json& j) {
  if (!j.is_object() || !j.contains("mean_of")) return {};
  const io::Json& list = j.at("mean_of");
  const bool texts =
      list.is_array() && !list.empty() &&
      std::all_of(list.begin(), list.end(), [](const io::Json& x) { return x.is_string(); });
  if (!texts)
    fail("task", "prompts",
         path.string() +
             ": the key 'mean_of' expects a list of at least one label of this file, got " +
             list.dump().substr(0, 60),
         "no label can be called mean_of");
  auto names = list.get<std::vector<std::string>>();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == "mean_of" || !j.contains(names[i]))
      fail("task", "prompts",
           path.string() + ": mean_of names '" + names[i] + "', which has no prompts here");
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i))
      fail("task", "prompts", path.string() + ": mean_of names '" + names[i] + "' twice");
  }
  return names;
}

/// {"label": {"positive": ["..."], "negative": ["..."], "ensemble": "max" or "mean"}, ...}; without
/// "ensemble": max. The key "mean_of" is no label: see read_mean_of.
inline std::vector<LabelPrompts> read_prompts(const std::filesystem::path& path) {
  const io::Json j = io::read_json(path);
  std::vector<LabelPrompts> out;
  if (!j.is_object() || j.empty())
    fail("task", "prompts",
         path.string() + ": expected an object {label: {positive: [...], negative: [...]}}");
  for (const auto& item : j.items()) {
    const std::string& label = item.key();
    const io::Json& p = item.value();
    if (label == "mean_of") {
      read_mean_of(path, j);
      continue;
    }
    LabelPrompts read{label, {}, {}, PromptEnsemble::max, path.string()};
    const std::string where = read.place();
    if (!p.is_object())
      fail("task", "prompts",
           where + ": expected {positive: [...], negative: [...]}, got " + p.dump().substr(0, 60));
    for (const auto& member : p.items())
      if (const std::string& key = member.key();
          key != "positive" && key != "negative" && key != "ensemble")
        fail("task", "prompts", where + ": unknown key '" + key + "'",
             "a label has positive, negative and ensemble");
    read.positive = io::get<std::vector<std::string>>(p, "positive", where);
    read.negative = io::get<std::vector<std::string>>(p, "negative", where);
    if (read.positive.empty() || read.negative.empty())
      fail("task", "prompts", where + ": needs at least one positive and one negative prompt");
    for (const auto& text : read.positive)
      if (std::find(read.negative.begin(), read.negative.end(), text) != read.negative.end())
        fail("task", "prompts", where + ": '" + text + "' stands on both sides",
             "a text speaks for a label or against it");
    if (p.contains("ensemble")) {
      const auto ensemble = io::get<std::string>(p, "ensemble", where);
      if (ensemble != "max" && ensemble != "mean")
        fail("task", "prompts", where + ": expected ensemble max or mean, got '" + ensemble + "'");
      if (ensemble == "mean") read.ensemble = PromptEnsemble::mean;
    }
    out.push_back(std::move(read));
  }
  if (out.empty()) fail("task", "prompts", path.string() + ": no label");
  return out;
}

/// The labels over which a prompt file fixes the mean: {"mean_of": ["label", ...], ...}; empty
/// where it fixes none. The same labels count on every data folder then, however few positives one
/// of them has.
inline std::vector<std::string> read_mean_of(const std::filesystem::path& path) {
  return read_mean_of(path, io::read_json(path));
}

/// Prompts and what the model makes of them: encoded once, used for any number of images.
template <class T, class B>
struct EncodedPrompts {
  std::vector<LabelPrompts> labels;
  EncodedTexts<T, B> texts;  // per label the positive prompts, then the negative ones
};

template <class T, class B, class M>
EncodedPrompts<T, B> encode_prompts(const M& model, const data::Tokenizer& vocabulary,
                                    data::Cleaning cleaning,
                                    const std::vector<LabelPrompts>& prompts) {
  std::vector<std::string> texts, places;
  for (const auto& p : prompts) {
    if (p.positive.empty() || p.negative.empty())
      fail("task", "prompts", p.place() + ": needs at least one positive and one negative prompt");
    texts.insert(texts.end(), p.positive.begin(), p.positive.end());
    texts.insert(texts.end(), p.negative.begin(), p.negative.end());
    places.resize(texts.size(), p.place());
  }
  EncodedPrompts<T, B> out{prompts, encode_texts<T, B>(model, vocabulary, texts, cleaning, places)};
  std::size_t at = 0;
  for (const auto& p : prompts) {
    const std::size_t split = at + p.positive.size(), end = split + p.negative.size();
    for (std::size_t i = at; i < split; ++i)
      for (std::size_t k = split; k < end; ++k)
        if (out.texts.tokens[i] == out.texts.tokens[k])
          fail("task", "prompts",
               p.place() + ": '" + texts[i] + "' and '" + texts[k] +
                   "' are the same text after cleaning, on both sides",
               "a text speaks for a label or against it");
    at = end;
  }
  return out;
}

/// Scores (images, labels) of each kind; `local` and `both` are empty where the model compares no
/// regions with words.
struct ZeroShotScores {
  xt::xtensor<double, 2> global, local, both;

  /// The scores that stand for a model: both where it has both, else global.
  const xt::xtensor<double, 2>& used() const { return both.size() > 0 ? both : global; }
};

/// Local scores are computed where the prompts are, see local_similarity.
template <class T, class B, class Keep, class M>
ZeroShotScores zero_shot(const M& model, const EncodedPrompts<T, B>& encoded,
                         const Embeddings<T, Keep>& e) {
  const std::vector<LabelPrompts>& prompts = encoded.labels;
  const model::Parts parts = detail::parts_of(model);
  const bool has_local = parts.regions && parts.words;
  std::size_t sentences = 0;
  for (const auto& p : prompts) sentences += p.positive.size() + p.negative.size();
  if (encoded.texts.global.shape()[0] != sentences)
    fail("task", "zero_shot",
         "the prompts are of " + std::to_string(sentences) + " sentences, but " +
             std::to_string(encoded.texts.global.shape()[0]) + " were encoded");
  const auto g = cosines(e.image, encoded.texts.global);
  xt::xtensor<double, 2> l;
  if (has_local)
    l = local_similarity(e.regions, model.aggregator.grid * model.aggregator.grid, encoded.texts,
                         model.config.gamma1, model.config.gamma2);
  if (has_local && l.shape()[0] != g.shape()[0])
    fail("task", "zero_shot",
         "expected image tokens of " + std::to_string(g.shape()[0]) + " images, got those of " +
             std::to_string(l.shape()[0]));
  const auto one_side = [](const xt::xtensor<double, 2>& similarity, std::size_t image,
                           std::size_t first, std::size_t count, PromptEnsemble ensemble) {
    double best = similarity(image, first), sum = 0;
    for (std::size_t p = first; p < first + count; ++p) {
      best = (std::max)(best, similarity(image, p));
      sum += similarity(image, p);
    }
    return ensemble == PromptEnsemble::max ? best : sum / static_cast<double>(count);
  };
  const std::size_t n = e.image.shape()[0];
  const auto empty = xt::xtensor<double, 2>::from_shape({n, prompts.size()});
  ZeroShotScores s{empty, {}, {}};
  if (has_local) s.local = s.both = empty;
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t at = 0;
    for (std::size_t k = 0; k < prompts.size(); ++k) {
      const std::size_t positive = prompts[k].positive.size(),
                        negative = prompts[k].negative.size();
      const PromptEnsemble how = prompts[k].ensemble;
      s.global(i, k) =
          one_side(g, i, at, positive, how) - one_side(g, i, at + positive, negative, how);
      if (has_local) {
        s.local(i, k) =
            one_side(l, i, at, positive, how) - one_side(l, i, at + positive, negative, how);
        s.both(i, k) = 0.5 * (s.global(i, k) + s.local(i, k));
      }
      at += positive + negative;
    }
  }
  return s;
}
/// The same, the prompts encoded for this call alone.
template <class T, class B, class M>
ZeroShotScores zero_shot(const M& model, const data::Tokenizer& vocabulary, data::Cleaning cleaning,
                         const std::vector<LabelPrompts>& prompts, const Embeddings<T, B>& e) {
  return zero_shot(model, encode_prompts<T, B>(model, vocabulary, cleaning, prompts), e);
}

}  // namespace hybridmed::task
