#pragma once
// The HybridMED model (arXiv 2410.00448) and its frozen teacher. Its siblings are the same parts,
// fewer of them.
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/model/aggregator.hpp"
#include "hybridmed/model/config.hpp"
#include "hybridmed/model/decoder.hpp"
#include "hybridmed/model/resnet.hpp"
#include "hybridmed/model/swin.hpp"
#include "hybridmed/model/text_encoder.hpp"
#include "hybridmed/model/vit.hpp"

namespace hybridmed::model {

/// One batch in backend memory.
template <class T, class B>
struct Batch {
  Tensor<T, B> image;  ///< (B, 3, S, S); undefined where no objective looks at images
  TextPlan<B> text;
  Tensor<master_of<T>, B> teacher_logits{};  ///< teacher(text), where an objective distils them

  /// Calls f(tensor) for what lies in the backend's memory.
  template <class F>
  void each_input(F&& f) const {
    f(image);
    f(text.numbers);
    f(teacher_logits);
  }
  /// Calls f(Index) for everything that the host reads of it. Where all of these are equal, two
  /// batches differ in their inputs alone.
  template <class F>
  void each_extent(F&& f) const {
    const auto extents = [&](bool defined, const Shape& shape) {
      f(defined ? shape.rank() : -1);
      for (int i = 0; defined && i < shape.rank(); ++i) f(shape[i]);
    };
    extents(image.defined(), image.shape());
    extents(teacher_logits.defined(), teacher_logits.shape());
    text.each_extent(f);
  }
  /// A batch of these extents in other memory, where the inputs are still to be brought.
  Batch elsewhere() const {
    const auto like = []<class X>(const X& t) { return t.defined() ? X(t.shape()) : X(); };
    return {like(image), text.elsewhere(), like(teacher_logits)};
  }
};

/// Frozen copy of what the summarization branch uses, taken at the stage boundary; its forward pass
/// has no tape.
template <class T, class B, class Text = TextEncoder<T, B>>
struct Teacher {
  Text text;
  Decoder<T, B> decoder;

  Teacher(Text encoder, const DecoderConfig& c)
      : text(std::move(encoder)), decoder(c, {true, false}) {}
  template <class F>
  void visit(F&& f) {
    f("text", text);
    f("decoder", decoder);
  }
  /// Logits at the targets of R_sum, (targets, V).
  Tensor<master_of<T>, B> operator()(const TextPlan<B>& plan) const {
    using W = Wide<Tensor<T, B>>;
    const W encoded = text.template operator()<Tensor<T, B>>(plan);
    const auto states = decoder(encoded, plan, Branches{true, false},
                                slice_rows(encoded, 0, plan.findings_rows), W());
    return decoder.fc_summarize.wide(states.summarize);
  }
};

/// `Encoder`, `Text`: policies, see docs/policies/image_encoder.md and text_encoder.md.
template <class T, class B, class Encoder, class Text = TextEncoder<T, B>>
struct HybridMed : private RequireBackend<B, T> {
  static_assert(
      ImageEncoder<Encoder, T, B>,
      "hybridmed: the image encoder of HybridMed must be a module with LevelShapes levels() const "
      "and template <Value V> ImageFeatures<V> operator()(image, mode, levels) const; see "
      "docs/policies/image_encoder.md");
  static_assert(TextPolicy<Text, T, B>,
                "hybridmed: the text encoder of HybridMed must be a module with width(), causal(), "
                "template <Value V> Wide<V> operator()(plan) const and Wide<V> global(states, "
                "cls_rows) const; see docs/policies/text_encoder.md");
  using Scalar = T;
  using Backend = B;
  using Batch = model::Batch<T, B>;
  /// What represent() can set.
  static constexpr auto computes = representation::everything;
  Config config;
  Encoder image;
  FpnSum<T, B> aggregator;
  CaptionMemory<T, B> memory;
  Text text;
  Decoder<T, B> decoder;
  Projections<T, B> proj;

  /// The parts that objectives with these needs read, and no others.
  /// @throws Error for a decoder on a text encoder that is not causal.
  template <class... R>
  HybridMed(const Config& c, Encoder encoder, representation::Needs<R...> needs)
      : HybridMed(c, std::move(encoder), parts_of(needs)) {}
  HybridMed(const Config& c, Encoder encoder,
            const Parts& parts = parts_of(representation::everything))
      : HybridMed(c, std::move(encoder), Text(c.text()), parts) {}
  HybridMed(const Config& c, Encoder encoder, Text text_encoder, const Parts& parts)
      : config(c),
        image(std::move(encoder)),
        text(std::move(text_encoder)),
        decoder(c.decoder(), {parts.summarization, parts.captioning}),
        proj(image.levels()[3].width, text.width(), c.d_e, parts),
        parts_(parts) {
    const bool decodes = parts.summarization || parts.captioning;
    if (decodes && !text.causal())
      fail("model", "HybridMed",
           "the decoder continues the states of the text encoder, and this one is not causal: a "
           "token has seen the next one",
           "build it without the decoder, or with a causal text encoder");
    if (decodes && text.width() != c.d)
      fail("model", "HybridMed",
           "expected a text encoder as wide as the decoder, d = " + std::to_string(c.d) + ", got " +
               std::to_string(text.width()));
    if (parts.regions) aggregator = FpnSum<T, B>(c.aggregator(), image.levels());
    if (parts.captioning) memory = CaptionMemory<T, B>(image.levels()[3], c.d);
  }
  template <class F>
  void visit(F&& f) {
    f("image", image);
    if (parts_.regions) f("aggregator", aggregator);
    if (parts_.captioning) f("memory", memory);
    f("text", text);
    if (parts_.summarization || parts_.captioning) f("decoder", decoder);
    f("proj", proj);
  }

  TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                   std::span<const std::int32_t> keys,
                   typename TextPlan<B>::Cls cls = TextPlan<B>::Cls::impression) const {
    const Index places = parts_.captioning ? memory.pos.value.rows() : 0;
    return TextPlan<B>(findings, impression, keys, places, config.positions(), config.vocab, cls,
                       parts_.regions ? aggregator.grid * aggregator.grid : 0);
  }

  /// Sets the representations that `r` wants, and computes nothing else. The model computes in T,
  /// the objectives that read `r` in L, the scalar of losses.
  /// @throws Error where the batch does not fit the configuration: images (B, 3, image_size,
  /// image_size), texts of the same B; or where the model was built without a part that it takes.
  template <Value L, class N>
  void represent(const Batch& batch, const nn::Mode& mode,
                 representation::Representations<L, N>& r) const {
    using namespace representation;
    using V = Like<L, T>;
    need_parts(r);
    const TextPlan<B>& p = batch.text;
    if constexpr (N::template has<TeacherLogits>)
      if (r.template wants<TeacherLogits>()) {
        if (!batch.teacher_logits.defined())
          fail("model", "HybridMed", "an objective needs teacher logits, but the batch has none",
               "batch.teacher_logits = teacher(batch.text), with teacher = model.snapshot()");
        r.template set<TeacherLogits>({batch.teacher_logits});
      }
    ImageFeatures<V> features;
    if constexpr (N::template has<ImageGlobal> || N::template has<ImageTokens> ||
                  N::template has<CaptioningLogits>)
      if (r.template wants<ImageGlobal>() || r.template wants<ImageTokens>() ||
          r.template wants<CaptioningLogits>())
        features = encode_images<V>(batch, mode, r);
    Wide<V> encoded;
    if constexpr (N::template has<ImpressionGlobal> || N::template has<FindingsTokens> ||
                  N::template has<SummarizationLogits> || N::template has<CaptioningLogits>)
      if (r.template wants<ImpressionGlobal>() || r.template wants<FindingsTokens>() ||
          r.template wants<SummarizationLogits>() || r.template wants<CaptioningLogits>())
        encoded = text.template operator()<V>(p);
    if constexpr (N::template has<ImageGlobal>)
      if (r.template wants<ImageGlobal>()) {
        const L global =
            p.present.size() == p.batch ? features.global : gather_rows(features.global, p.present);
        r.template set<ImageGlobal>({proj.image_global.wide(global), global, p.present});
      }
    if constexpr (N::template has<ImpressionGlobal>)
      if (r.template wants<ImpressionGlobal>()) {
        if (p.present_cls.size() != p.present.size())
          fail("model", "HybridMed",
               "an objective needs global vectors of the texts, but the batch was planned without "
               "CLS tokens");
        const L global = text.global(encoded, p.present_cls);
        r.template set<ImpressionGlobal>(
            {proj.text_global.wide(global), global, p.present, p.keys});
      }
    if constexpr (N::template has<ImageTokens>)
      if (r.template wants<ImageTokens>()) {
        const Index grid = aggregator.grid;
        if (p.regions != grid * grid)
          fail("model", "HybridMed",
               "the batch was planned for images of " + std::to_string(p.regions) +
                   " regions, but the model has " + std::to_string(grid * grid) + " (" +
                   std::to_string(grid) + " x " + std::to_string(grid) + ")",
               "a batch is planned by the model that takes it: model.plan(...)");
        const L regions = aggregator(features.levels);
        const Index images = p.word_samples.size();
        r.template set<ImageTokens>(
            {images == p.batch ? regions : gather_rows(regions, p.region_rows), images,
             p.word_samples, std::is_same_v<T, bfloat16>});
      }
    if constexpr (N::template has<FindingsTokens>)
      if (r.template wants<FindingsTokens>())
        r.template set<FindingsTokens>({proj.text_local.wide(gather_rows(encoded, p.word_rows)),
                                        p.word_offsets, p.word_samples});
    if constexpr (N::template has<SummarizationLogits> || N::template has<CaptioningLogits>)
      decode<V>(p, encoded, features, r);
  }

  /// Copies the summarization side into a new teacher (`snapshot`, method 4.5). Train it first: a
  /// teacher distils what it knows.
  /// @throws Error where the model was built without a summarization side.
  Teacher<T, B, Text> snapshot() {
    if (!parts_.summarization)
      fail("model", "snapshot",
           "this model was built without the summarization branch (decoder.*.sum, decoder.fc_sum), "
           "which is what a teacher is",
           "build it with the needs of Summarization too: make_hybridmed(config, objective.needs | "
           "objective::Summarization::needs), train that branch, then take the snapshot");
    Teacher<T, B, Text> t(text, config.decoder());
    nn::copy_by_name<T, B>(decoder, t.decoder, "snapshot");
    nn::for_each_parameter(
        t, nn::ParameterVisitor<T, B>([](const std::string&, auto& p) { p.trainable = false; }));
    return t;
  }

  /// A copy that shares no weights.
  HybridMed clone() const { return nn::clone(*this); }

  /// The parts that it was built with.
  const Parts& parts() const { return parts_; }

 private:
  template <Value L, class N>
  void need_parts(const representation::Representations<L, N>& r) const {
    using namespace representation;
    const Parts wanted{
        r.template wants<ImageGlobal>(),         r.template wants<ImpressionGlobal>(),
        r.template wants<ImageTokens>(),         r.template wants<FindingsTokens>(),
        r.template wants<SummarizationLogits>(), r.template wants<CaptioningLogits>()};
    if (!parts_.hold(wanted))
      fail("model", "HybridMed", "an objective needs a part that this model was built without",
           "build the model with the needs of all its objectives");
  }
  template <Value V, Value L, class N>
  ImageFeatures<V> encode_images(const Batch& batch, const nn::Mode& mode,
                                 const representation::Representations<L, N>& r) const {
    const Index samples = batch.text.batch;
    if (!batch.image.defined())
      fail("model", "HybridMed", "an objective needs images, but the batch has none");
    need_images("HybridMed", batch.image, config.image_size);
    if (batch.image.shape()[0] != samples)
      fail("model", "HybridMed",
           "expected one image for each of the " + std::to_string(samples) +
               " samples of the texts, got " + std::to_string(batch.image.shape()[0]));
    const bool all = r.template wants<representation::ImageTokens>();
    ImageFeatures<V> features =
        image.template operator()<V>(batch.image, mode, all ? Levels::all : Levels::last);
    if (r.template wants<representation::ImageGlobal>()) {
      hybridmed::detail::need_defined("the image encoder's global vector", features.global);
      if (value(features.global).rows() != samples)
        fail("model", "HybridMed",
             "expected a global vector of the image encoder for each of " +
                 std::to_string(samples) + " images, got " + value(features.global).shape().str());
    }
    return features;
  }
  template <Value V, Value L, class N>
  void decode(const TextPlan<B>& p, const Wide<V>& encoded, const ImageFeatures<V>& features,
              representation::Representations<L, N>& r) const {
    using namespace representation;
    const Branches branches{r.template wants<SummarizationLogits>(),
                            r.template wants<CaptioningLogits>()};
    if (!branches.summarize && !branches.caption) return;
    using W = Wide<V>;
    const W findings = branches.summarize ? slice_rows(encoded, 0, p.findings_rows) : W();
    const W picture = branches.caption ? memory(features.levels[3]) : W();
    const DecoderStates<V> h = decoder(encoded, p, branches, findings, picture);
    if constexpr (N::template has<SummarizationLogits>)
      if (branches.summarize)
        r.template set<SummarizationLogits>(
            {decoder.fc_summarize.wide(h.summarize), p.summarize.target, p.summarize.sample});
    if constexpr (N::template has<CaptioningLogits>)
      if (branches.caption)
        r.template set<CaptioningLogits>({decoder.fc_caption.wide(h.caption), p.caption.target,
                                          p.caption.sample, p.summarize_in_caption, p.same_rows});
  }

  Parts parts_;
};

/// The encoder that the configuration names.
template <class T, class B>
using AnyEncoder = AnyImageEncoder<Vit<T, B>, Swin<T, B>, ResNet<T, B>>;

template <class T, class B>
AnyEncoder<T, B> make_encoder(const Config& c) {
  c.validate();
  if (c.encoder == "vit") return {Vit<T, B>(c.vit())};
  if (c.encoder == "swin") return {Swin<T, B>(c.swin())};
  return {ResNet<T, B>(c.resnet())};
}

/// Says which parts tasks read of a model.
template <class M>
constexpr void need_named_parts() {
  static_assert(
      requires(const M& m) {
        m.config;
        m.image;
        m.text;
        m.decoder;
        m.proj;
      },
      "hybridmed: embedding, zero-shot scores and generation read the parts of model::HybridMed by "
      "name (config, image, text, decoder, proj): give them one, as the part of your own model "
      "that it is");
}

/// The model with the encoder chosen at run time, all weights zero: initialise or load them.
template <class T, class B>
HybridMed<T, B, AnyEncoder<T, B>> make_hybridmed(const Config& c, const Parts& parts) {
  try {
    return {c, make_encoder<T, B>(c), parts};
  } catch (const std::bad_alloc&) {  // of host tables
    throw OutOfMemory("model", "make_hybridmed",
                      "out of memory for the tables of this configuration",
                      "lower image_size or grid");
  }
}
/// `needs`: those of its objectives.
template <class T, class B, class... R>
HybridMed<T, B, AnyEncoder<T, B>> make_hybridmed(const Config& c,
                                                 representation::Needs<R...> needs) {
  return make_hybridmed<T, B>(c, parts_of(needs));
}
template <class T, class B>
HybridMed<T, B, AnyEncoder<T, B>> make_hybridmed(const Config& c) {
  return make_hybridmed<T, B>(c, representation::everything);
}

}  // namespace hybridmed::model
