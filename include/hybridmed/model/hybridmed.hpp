#pragma once
// HybridMED (arXiv 2410.00448): the model, its frozen teacher, and its objective.
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/model/aggregator.hpp"
#include "hybridmed/model/decoder.hpp"
#include "hybridmed/model/resnet.hpp"
#include "hybridmed/model/swin.hpp"
#include "hybridmed/model/text_encoder.hpp"
#include "hybridmed/model/vit.hpp"
#include "hybridmed/objective/alignment/info_nce.hpp"
#include "hybridmed/objective/alignment/local.hpp"
#include "hybridmed/objective/distillation/logits.hpp"
#include "hybridmed/objective/generation/impression.hpp"

namespace hybridmed::model {

/// One batch in backend memory.
template <class T, class B>
struct Batch {
  Tensor<T, B> image;  // (B, 3, S, S); undefined where no objective looks at images
  TextPlan<B> text;
};

/// Frozen copy of what the summarization branch uses, taken at the stage boundary; its forward pass
/// has no tape.
template <class T, class B>
struct Teacher {
  TextEncoder<T, B> text;
  Decoder<T, B> decoder;

  explicit Teacher(const Config& c) : text(c), decoder(c, {true, false}) {}
  template <class F>
  void visit(F&& f) {
    f("text", text);
    f("decoder", decoder);
  }
  /// Logits at the targets of R_sum, (targets, V).
  Tensor<T, B> operator()(const TextPlan<B>& plan) const {
    const Tensor<T, B> encoded = text.template operator()<Tensor<T, B>>(plan);
    return decoder.fc_summarize(decoder(encoded, plan, Branches{true, false},
                                        slice_rows(encoded, 0, plan.findings_rows), Tensor<T, B>())
                                    .summarize);
  }
};

template <class T, class B, class Encoder>
struct HybridMed : private RequireBackend<B, T> {
  static_assert(
      ImageEncoder<Encoder, T, B>,
      "hybridmed: the image encoder of HybridMed must be a module with template <Value V> "
      "ImageFeatures<V> operator()(image, mode, levels) const; see docs/policies/image_encoder.md");
  using Image = Encoder;
  Config config;
  Parameter<T, B> log_scale;
  Encoder image;
  FpnSum<T, B> aggregator;
  CaptionMemory<T, B> memory;
  TextEncoder<T, B> text;
  Decoder<T, B> decoder;
  Projections<T, B> proj;

  /// The parts that objectives with these needs read, and no others.
  HybridMed(const Config& c, Encoder encoder, unsigned needs = objective::everything)
      : config(c),
        log_scale(Shape{}, init::constant(c.log_scale_init)),
        image(std::move(encoder)),
        text(c),
        proj(c, needs),
        parts_(needs) {
    using namespace objective;
    if (needs & image_tokens) aggregator = FpnSum<T, B>(c);
    if (needs & captioning_logits) memory = CaptionMemory<T, B>(c);
    decoder =
        Decoder<T, B>(c, {(needs & summarization_logits) != 0, (needs & captioning_logits) != 0});
  }
  template <class F>
  void visit(F&& f) {
    using namespace objective;
    f("log_scale", log_scale);
    f("image", image);
    if (parts_ & image_tokens) f("aggregator", aggregator);
    if (parts_ & captioning_logits) f("memory", memory);
    f("text", text);
    if (parts_ & (summarization_logits | captioning_logits)) f("decoder", decoder);
    f("proj", proj);
  }

  TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                   std::span<const std::int32_t> keys,
                   typename TextPlan<B>::Cls cls = TextPlan<B>::Cls::impression) const {
    const Index places = parts_ & objective::captioning_logits ? memory.pos.value.rows() : 0;
    return TextPlan<B>(findings, impression, keys, places, config.positions(), config.vocab, cls);
  }

  /// Computes what the bits of `needs` that are also in `wanted` ask for, and nothing else.
  /// `teacher` may be null when teacher logits are not wanted.
  /// @throws Error where the batch does not fit the configuration: images (B, 3, image_size,
  /// image_size), texts of the same B.
  template <unsigned needs, Value V>
  objective::Representations<V> represent(const Batch<T, B>& batch, const Teacher<T, B>* teacher,
                                          const nn::Mode& mode, unsigned wanted = needs) const {
    using namespace objective;
    static_assert((needs & ~unsigned{everything}) == 0,
                  "hybridmed: an objective needs what HybridMed does not compute: its needs are "
                  "bits of objective::Needs; see docs/policies/objective.md");
    const unsigned want = needs & wanted;
    if (want & ~parts_)
      fail("model", "HybridMed", "an objective needs a part that this model was built without",
           "build the model with the needs of all its objectives");
    const TextPlan<B>& p = batch.text;
    Representations<V> r;
    if constexpr (needs & teacher_logits)
      if (want & teacher_logits) {
        if (!teacher)
          fail("model", "HybridMed", "an objective needs teacher logits, but there is no teacher");
        r.teacher = (*teacher)(p);
      }
    ImageFeatures<V> features;
    if constexpr (needs & (image_global | image_tokens | captioning_logits))
      if (want & (image_global | image_tokens | captioning_logits)) {
        if (!batch.image.defined())
          fail("model", "HybridMed", "an objective needs images, but the batch has none");
        need_images("HybridMed", batch.image, config.image_size);
        if (batch.image.shape()[0] != p.batch)
          fail("model", "HybridMed",
               "expected one image for each of the " + std::to_string(p.batch) +
                   " samples of the texts, got " + std::to_string(batch.image.shape()[0]));
        features = image.template operator()<V>(batch.image, mode,
                                                want & image_tokens ? Levels::all : Levels::last);
      }
    V encoded;
    if constexpr (needs &
                  (text_global | findings_tokens | summarization_logits | captioning_logits))
      if (want & (text_global | findings_tokens | summarization_logits | captioning_logits))
        encoded = text.template operator()<V>(p);
    if constexpr (needs & image_global)
      if (want & image_global) {
        hybridmed::detail::need_defined("the image encoder's global vector", features.global);
        if (value(features.global).rows() != p.batch)
          fail("model", "HybridMed",
               "expected a global vector of the image encoder for each of " +
                   std::to_string(p.batch) + " images, got " +
                   value(features.global).shape().str());
        r.image = proj.image_global(p.present.size() == p.batch
                                        ? features.global
                                        : gather_rows(features.global, p.present));
      }
    if constexpr (needs & text_global)
      if (want & text_global) {
        if (p.present_cls.size() != p.present.size())
          fail("model", "HybridMed",
               "an objective needs global vectors of the texts, but the batch was planned without "
               "CLS tokens");
        r.text = proj.text_global(text.norm(gather_rows(encoded, p.present_cls)));
      }
    if constexpr ((needs & image_global) && (needs & text_global))
      if ((want & image_global) && (want & text_global)) {
        r.log_scale = use<V>(log_scale);
        r.keys = p.keys;
      }
    if constexpr (needs & image_tokens)
      if (want & image_tokens) {
        const V regions = aggregator(features.levels);
        r.region_images = static_cast<Index>(p.word_samples.size());
        r.regions = r.region_images == p.batch ? regions : gather_rows(regions, region_rows(p));
      }
    if constexpr (needs & findings_tokens)
      if (want & findings_tokens) {
        r.words = proj.text_local(gather_rows(encoded, p.word_rows));
        r.word_offsets = p.word_offsets;
      }
    if constexpr (needs & (summarization_logits | captioning_logits)) {
      const Branches branches{(want & summarization_logits) != 0, (want & captioning_logits) != 0};
      const V findings = branches.summarize ? slice_rows(encoded, 0, p.findings_rows) : V();
      const V picture = branches.caption ? memory(features.levels[3]) : V();
      const DecoderStates<V> h = decoder(encoded, p, branches, findings, picture);
      if (branches.summarize) {
        r.logits_sum = decoder.fc_summarize(h.summarize);
        r.target_sum = p.summarize.target;
      }
      if (branches.caption) {
        r.logits_cap = decoder.fc_caption(h.caption);
        r.target_cap = p.caption.target;
        r.summarize_in_caption = p.summarize_in_caption;
        r.same_rows = p.same_rows;
      }
    }
    return r;
  }

  /// Copies the summarization side into a new teacher (`snapshot`, method 4.5). Train it first: a
  /// teacher distils what it knows.
  /// @throws Error where the model was built without a summarization side.
  Teacher<T, B> snapshot() {
    if (!(parts_ & objective::summarization_logits))
      fail("model", "snapshot",
           "this model was built without the summarization branch (decoder.*.sum, decoder.fc_sum), "
           "which is what a teacher is",
           "build it with the needs of Summarization too: make_hybridmed(config, objective.needs | "
           "objective::summarization_logits), train that branch, then take the snapshot");
    Teacher<T, B> t(config);
    nn::copy_by_name<T, B>(*this, t, "snapshot");
    nn::for_each_parameter(
        t, nn::ParameterVisitor<T, B>([](const std::string&, auto& p) { p.trainable = false; }));
    return t;
  }

  /// A copy that shares no weights.
  HybridMed clone() const { return nn::clone(*this); }

  /// Does the model hold the parts that these bits of objective::Needs read?
  bool has(unsigned needs) const { return (needs & ~parts_) == 0; }

  /// True for the parameters that stage 1 trains: E_T, SA, LN1, LN3, FFN, LNout, CA^sum and FC^sum.
  static bool in_stage1(std::string_view name) {
    return name.starts_with("text.") ||
           (name.starts_with("decoder.") && name.find(".cap.") == name.npos &&
            !name.starts_with("decoder.fc_cap"));
  }

 private:
  unsigned parts_;  // bits of objective::Needs

  IndexTensor<B> region_rows(const TextPlan<B>& p) const {
    const Index n = aggregator.grid * aggregator.grid;
    ArenaVector<std::int32_t> rows;
    for (std::int32_t b : p.word_samples)
      for (Index i = 0; i < n; ++i) rows.push_back(static_cast<std::int32_t>(b * n + i));
    return row_indices<B>(rows);
  }
};

/// The encoder that the configuration names.
template <class T, class B>
using AnyEncoder = AnyImageEncoder<Vit<T, B>, Swin<T, B>, ResNet<T, B>>;

template <class T, class B>
AnyEncoder<T, B> make_encoder(const Config& c) {
  c.validate();
  if (c.encoder == "vit") return {Vit<T, B>(c)};
  if (c.encoder == "swin") return {Swin<T, B>(c)};
  return {ResNet<T, B>(c)};
}

/// The model with the encoder chosen at run time, all weights zero: initialise or load them.
/// `needs`: those of its objectives.
template <class T, class B>
HybridMed<T, B, AnyEncoder<T, B>> make_hybridmed(const Config& c,
                                                 unsigned needs = objective::everything) {
  try {
    return {c, make_encoder<T, B>(c), needs};
  } catch (const std::bad_alloc&) {  // of host tables
    throw OutOfMemory("model", "make_hybridmed",
                      "out of memory for the tables of this configuration",
                      "lower image_size or grid");
  }
}

/// Stage 1: summarization alone.
inline auto stage1_objective(const Config& c) {
  return c.lambda_sum * objective::Summarization{c.label_smoothing_gen};
}

/// Stage 2: all five terms (method 1.1, item 5).
inline auto stage2_objective(const Config& c) {
  using namespace objective;
  return c.lambda_cg * InfoNce{c.label_smoothing_cg, c.dedup_targets} +
         c.lambda_cl * LocalAlignment{{c.gamma1, c.gamma2, c.aggregation()}, c.gamma3} +
         c.lambda_sum * Summarization{c.label_smoothing_gen} +
         c.lambda_cap * Captioning{c.label_smoothing_gen} +
         c.lambda_dis * LogitDistillation{c.tau_d};
}

}  // namespace hybridmed::model
