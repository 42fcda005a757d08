#pragma once
// Where the words of a text look in an image: a2[., t] of the local alignment (method 6), G x G per
// word; and where the text as a whole looks.
#include <algorithm>
#include <cmath>
#include <string_view>

#include "hybridmed/task/embed.hpp"

namespace hybridmed::task {

struct AttentionMaps {
  xt::xtensor<double, 2> word;  // (words, N): a2; each word's map sums to 1 over the regions
  std::vector<double>
      text;  // (N): the similarity <p, w> of each region to the word that suits it best
  std::vector<double> cosine;  // (words): of each word and what it looks at, sum_n a2[n, t] p_n; 0
                               // where one of them is 0

  /// (words): how the score of the text weighs its words, softmax of gamma2 * cosine (method 4.2a).
  std::vector<double> shares(double gamma2) const {
    std::vector<double> out;
    double sum = 0;
    const double top = cosine.empty() ? 0 : *std::max_element(cosine.begin(), cosine.end());
    for (double c : cosine) sum += out.emplace_back(std::exp(gamma2 * (c - top)));
    for (double& s : out) s /= sum;
    return out;
  }

  /// The region that answers to the text most.
  std::size_t maximum() const {
    return static_cast<std::size_t>(std::max_element(text.begin(), text.end()) - text.begin());
  }
};

/// regions (N, d_e) of one image, words (T, d_e) of one text.
///
/// The map of the text is made of similarities, not of attention: a1 sums to 1 over the words of
/// every region and a2 to 1 over the regions of every word, so neither tells a region that the text
/// describes from one that it does not mention.
template <class T, class B>
AttentionMaps attention_maps(const Tensor<T, B>& regions, const Tensor<T, B>& words,
                             double gamma1) {
  if (!regions.defined() || !words.defined() || regions.cols() != words.cols())
    fail("task", "attention_maps",
         "expected regions (N, d) and words (T, d), got " + regions.shape().str() + " and " +
             words.shape().str());
  const auto n = static_cast<std::size_t>(regions.rows()),
             m = static_cast<std::size_t>(words.rows()),
             d = static_cast<std::size_t>(regions.cols());
  const auto p = regions.to_host(), w = words.to_host();
  AttentionMaps out{xt::xtensor<double, 2>::from_shape({m, n}), std::vector<double>(n, 0.0),
                    std::vector<double>(m, 0.0)};
  for (std::size_t r = 0; r < n && m > 0; ++r) {
    double top = -INFINITY, sum = 0;
    for (std::size_t t = 0; t < m; ++t) {
      double s = 0;
      for (std::size_t c = 0; c < d; ++c)
        s += static_cast<double>(p[r * d + c]) * static_cast<double>(w[t * d + c]);
      if (!std::isfinite(s))
        fail("task", "attention_maps", "a similarity is not a number",
             "the model's weights have diverged: take an earlier checkpoint");
      out.word(t, r) = s;
      top = (std::max)(top, s);
    }
    out.text[r] = top;
    for (std::size_t t = 0; t < m; ++t) sum += out.word(t, r) = std::exp(out.word(t, r) - top);
    for (std::size_t t = 0; t < m; ++t) out.word(t, r) /= sum;  // a1
  }
  for (std::size_t t = 0; t < m; ++t) {
    double sum = 0, top = 0;
    for (std::size_t r = 0; r < n; ++r) top = (std::max)(top, out.word(t, r));
    for (std::size_t r = 0; r < n; ++r)
      sum += out.word(t, r) = std::exp(gamma1 * (out.word(t, r) - top));
    for (std::size_t r = 0; r < n; ++r) out.word(t, r) /= sum;  // a2
    double dot = 0, seen = 0, own = 0;
    for (std::size_t c = 0; c < d; ++c) {
      double context = 0;
      for (std::size_t r = 0; r < n; ++r)
        context += out.word(t, r) * static_cast<double>(p[r * d + c]);
      const double word = static_cast<double>(w[t * d + c]);
      dot += context * word;
      seen += context * context;
      own += word * word;
    }
    out.cosine[t] = dot / (std::max)(std::sqrt(seen * own), 1e-8);
  }
  return out;
}

/// A word of a text: its pieces together.
struct WordMap {
  std::string word;
  double share = 0,
         cosine =
             0;  // of the text's score; of the word and what it looks at, the mean over its pieces
  std::vector<double> map;  // (N): sums to 1, the mean over its pieces
};

/// The maps of whole words: pieces that a vocabulary writes with "##" belong to the word before
/// them. `tokens`: as encoded, without BOS and EOS; `token_text(id)` gives a token's spelling.
template <class F>
std::vector<WordMap> word_maps(const AttentionMaps& maps, const std::vector<std::int32_t>& tokens,
                               double gamma2, F&& token_text) {
  if (tokens.size() != maps.cosine.size())
    fail("task", "word_maps",
         "expected " + std::to_string(maps.cosine.size()) + " tokens, got " +
             std::to_string(tokens.size()));
  const std::vector<double> shares = maps.shares(gamma2);
  const std::size_t n = maps.text.size();
  std::vector<WordMap> out;
  std::vector<double> pieces;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    std::string text = token_text(tokens[t]);
    if (text.starts_with("##") && !out.empty())
      text.erase(0, 2);
    else {
      out.push_back({"", 0, 0, std::vector<double>(n, 0.0)});
      pieces.push_back(0);
    }
    WordMap& w = out.back();
    w.word += text;
    w.share += shares[t];
    w.cosine += maps.cosine[t];
    for (std::size_t r = 0; r < n; ++r) w.map[r] += maps.word(t, r);
    ++pieces.back();
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].cosine /= pieces[i];
    for (double& x : out[i].map) x /= pieces[i];
  }
  return out;
}

/// Does a word say nothing by itself: punctuation, or one of the commonest function words of
/// English? "no", "not" and "without" say much.
inline bool is_stop_word(std::string_view word) {
  static constexpr std::string_view words[] = {
      "a",    "an",  "the",   "is",   "are",  "was",   "were",  "be",  "been", "being", "has",
      "have", "had", "there", "this", "that", "these", "those", "it",  "its",  "of",    "in",
      "on",   "at",  "to",    "by",   "for",  "from",  "with",  "and", "or",   "as",    "which"};
  return !data::has_words(word) ||
         std::find(std::begin(words), std::end(words), word) != std::end(words);
}

}  // namespace hybridmed::task
