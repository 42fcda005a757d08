#pragma once
// Embeddings of whole data sets and of prompts, as host arrays.
#include <algorithm>
#include <cmath>

#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/data/loader.hpp"
#include "hybridmed/train/upload.hpp"

namespace hybridmed::task {

/// Unit vectors and image tokens of a data set, in its order.
template <class T, class B>
struct Embeddings {
  xt::xtensor<double, 2> image, text;  // (n, d_e); text rows of studies without impression are zero
  std::vector<Tensor<T, B>> regions;   // per batch: (b * N, d_e); none without an aggregator
};

/// A few texts encoded as impressions: unit global vectors and projected words, specials excluded.
template <class T, class B>
struct EncodedTexts {
  xt::xtensor<double, 2> global;       // (k, d_e)
  Tensor<T, B> words;                  // (words, d_e); undefined where the model projects none
  Tensor<std::int32_t, Host> offsets;  // (k + 1)
  std::vector<std::vector<std::int32_t>> tokens;  // without BOS and EOS
  std::size_t cut = 0;                            // texts longer than the model reads
  std::size_t unknown = 0;                        // tokens that the vocabulary lacks

  /// The same with its words on another backend.
  template <class Other>
  EncodedTexts<T, Other> on() const {
    return {global, words.template on<Other>(), offsets, tokens, cut, unknown};
  }
};

namespace detail {
/// The parts of a model; one that does not say has all.
template <class M>
model::Parts parts_of(const M& model) {
  model::need_named_parts<M>();
  if constexpr (requires { model.parts(); })
    return model.parts();
  else
    return model::parts_of(representation::everything);
}
/// @throws Error where the model was built without parts that `operation` reads.
inline void need_part(bool there, const char* operation, const char* part) {
  if (!there)
    fail("task", operation, std::string("the model was built without ") + part,
         "build it with representation::everything, or with the needs of the objectives that "
         "train them; of the systems, hybridmed has all parts");
}

/// Unit rows to the host.
/// @throws Error for a row that is no number, or of length 0.
template <class T, class B>
void put_rows(const Tensor<T, B>& from, xt::xtensor<double, 2>& to,
              const std::vector<std::size_t>& rows) {
  const auto v = from.to_host();
  const auto cols = static_cast<std::size_t>(from.cols());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    double square = 0;
    for (std::size_t c = 0; c < cols; ++c) {
      const double x = static_cast<double>(v[r * cols + c]);
      to(rows[r], c) = x;
      square += x * x;
      if (!std::isfinite(x))
        fail("task", "embed", "the model's embedding is not a number",
             "its weights have diverged: take an earlier checkpoint");
    }
    if (square < 0.5)
      fail("task", "embed", "the model's embedding has no direction: it is a vector of zeros",
           "its weights are no trained ones");
  }
}
}  // namespace detail

/// Images (n, 3, S, S) alone: unit vectors, and image tokens where the model has them; no texts.
template <class T, class B, class M>
Embeddings<T, B> embed_images(const M& model, const Tensor<T, B>& images) {
  const model::Parts parts = detail::parts_of(model);
  detail::need_part(parts.image_global, "embed_images", "the global projection of images");
  model::need_images("embed_images", images, model.config.image_size);
  const auto n = static_cast<std::size_t>(images.shape()[0]);
  const auto features = model.image.template operator()<Tensor<T, B>>(
      images, nn::Mode::evaluation(), parts.regions ? model::Levels::all : model::Levels::last);
  Embeddings<T, B> out{
      xt::xtensor<double, 2>::from_shape({n, static_cast<std::size_t>(model.config.d_e)}), {}, {}};
  if (parts.regions) out.regions.push_back(model.aggregator(features.levels));
  std::vector<std::size_t> rows(n);
  for (std::size_t i = 0; i < n; ++i) rows[i] = i;
  detail::put_rows(normalize_rows(model.proj.image_global(features.global)), out.image, rows);
  return out;
}

/// `progress(done, total)` is called after every batch. The image tokens are kept on the backend
/// `Keep`: of a device, `Host` has more room.
template <class T, class B, class Keep = B, class M, class F>
Embeddings<T, Keep> embed_dataset(const M& model, const data::Dataset& dataset, std::size_t batch,
                                  int workers, F&& progress) {
  using X = Tensor<T, B>;
  const auto d_e = static_cast<std::size_t>(model.config.d_e);
  detail::need_part(detail::parts_of(model).text_global, "embed_dataset",
                    "the global projection of texts");
  Embeddings<T, Keep> out{xt::xtensor<double, 2>::from_shape({dataset.size(), d_e}),
                          xt::xtensor<double, 2>::from_shape({dataset.size(), d_e}),
                          {}};
  out.text.fill(0.0);
  data::Loader loader(dataset, {batch, false, false, workers}, Philox(), 0);
  std::size_t done = 0;
  while (auto host = loader.next()) {
    const auto b = train::upload<T, B>(*host, model);
    const auto images = embed_images<T, B>(model, b.image);
    for (std::size_t i = 0; i < host->studies.size(); ++i)
      for (std::size_t c = 0; c < d_e; ++c) out.image(host->studies[i], c) = images.image(i, c);
    for (const auto& regions : images.regions) out.regions.push_back(regions.template on<Keep>());
    if (b.text.present.size()) {
      std::vector<std::size_t> rows;
      for (std::int32_t i : b.text.present.to_host())
        rows.push_back(host->studies[static_cast<std::size_t>(i)]);
      const X encoded = model.text.template operator()<X>(b.text);
      detail::put_rows(
          normalize_rows(model.proj.text_global(model.text.global(encoded, b.text.present_cls))),
          out.text, rows);
    }
    check_interrupt("the data set is embedded");
    done += host->studies.size();
    progress(done, dataset.size());
  }
  return out;
}

/// A few texts as impressions; `places`: where each one stands, for errors.
/// @throws Error for a text without words.
template <class T, class B, class M>
EncodedTexts<T, B> encode_texts(const M& model, const data::Tokenizer& vocabulary,
                                const std::vector<std::string>& texts, data::Cleaning cleaning,
                                const std::vector<std::string>& places = {}) {
  using X = Tensor<T, B>;
  const model::Parts parts = detail::parts_of(model);
  detail::need_part(parts.text_global, "encode_texts", "the global projection of texts");
  std::vector<std::int32_t> ids, offsets{0}, words, word_offsets{0};
  EncodedTexts<T, B> out;
  for (const auto& text : texts) {
    bool cut = false;
    const auto section = vocabulary.encode_section(
        data::clean_text(text, cleaning), static_cast<std::size_t>(model.config.positions()), &cut);
    out.cut += cut;
    if (section.size() < 3)
      fail("task", "encode",
           (places.empty() ? "" : places.at(out.tokens.size()) + ": ") + "the text '" + text +
               "' has no words after cleaning");
    out.tokens.emplace_back(section.begin() + 1, section.end() - 1);
    out.unknown += static_cast<std::size_t>(
        std::count(out.tokens.back().begin(), out.tokens.back().end(), vocabulary.unk));
    const auto row = static_cast<std::int32_t>(ids.size() + out.tokens.size() -
                                               1);  // one CLS row follows each earlier text
    for (std::size_t t = 1; t + 1 < section.size(); ++t)
      words.push_back(row + static_cast<std::int32_t>(t));
    word_offsets.push_back(static_cast<std::int32_t>(words.size()));
    ids.insert(ids.end(), section.begin(), section.end());
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
  }
  const std::vector<std::int32_t> none(offsets.size(), 0);
  const auto plan = model.plan({{}, none}, {ids, offsets}, {});
  const X encoded = model.text.template operator()<X>(plan);
  const X global =
      normalize_rows(model.proj.text_global(model.text.global(encoded, plan.present_cls)));
  out.global = xt::xtensor<double, 2>::from_shape(
      {texts.size(), static_cast<std::size_t>(model.config.d_e)});
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < texts.size(); ++i) rows.push_back(i);
  detail::put_rows(global, out.global, rows);
  if (parts.words)
    out.words = model.proj.text_local(
        gather_rows(encoded, IndexTensor<B>::from_host(words, {static_cast<Index>(words.size())})));
  out.offsets = Tensor<std::int32_t, Host>::from_host(word_offsets,
                                                      {static_cast<Index>(word_offsets.size())});
  return out;
}

/// Cosines of unit rows: (n, d), (m, d) -> (n, m).
inline xt::xtensor<double, 2> cosines(const xt::xtensor<double, 2>& a,
                                      const xt::xtensor<double, 2>& b) {
  if (a.shape()[1] != b.shape()[1])
    fail("task", "cosines",
         "expected equal widths, got " + std::to_string(a.shape()[1]) + " and " +
             std::to_string(b.shape()[1]));
  auto out = xt::xtensor<double, 2>::from_shape({a.shape()[0], b.shape()[0]});
  for (std::size_t i = 0; i < a.shape()[0]; ++i)
    for (std::size_t j = 0; j < b.shape()[0]; ++j) {
      double s = 0;
      for (std::size_t c = 0; c < a.shape()[1]; ++c) s += a(i, c) * b(j, c);
      out(i, j) = s;
    }
  return out;
}

/// Local scores Z_max / gamma2 of every image with every text: (n, k), computed where the texts
/// are. Regions of another backend go there batch by batch.
template <class T, class B, class Keep>
xt::xtensor<double, 2> local_similarity(const std::vector<Tensor<T, Keep>>& regions,
                                        Index per_image, const EncodedTexts<T, B>& texts,
                                        double gamma1, double gamma2) {
  if (per_image < 1 || !texts.words.defined() || !texts.offsets.defined())
    fail("task", "local_similarity", "expected at least one region an image and encoded texts");
  for (const auto& r : regions)
    if (!r.defined() || r.rows() % per_image != 0)
      fail("task", "local_similarity",
           "expected regions of whole images of " + std::to_string(per_image) + ", got " +
               r.shape().str());
  const auto k = static_cast<std::size_t>(texts.offsets.size() - 1);
  std::size_t n = 0, at = 0;
  for (const auto& r : regions) n += static_cast<std::size_t>(r.rows() / per_image);
  auto out = xt::xtensor<double, 2>::from_shape({n, k});
  for (const auto& r : regions)
    for (T z : local_scores(r.template on<B>(), r.rows() / per_image, texts.words, texts.offsets,
                            {gamma1, gamma2, LocalAggregation::max})
                   .to_host()) {
      if (!std::isfinite(z))
        fail("task", "embed", "a local score is not a number",
             "the model's weights have diverged: take an earlier checkpoint");
      out.data()[at++] = static_cast<double>(z) / gamma2;
    }
  return out;
}

}  // namespace hybridmed::task
