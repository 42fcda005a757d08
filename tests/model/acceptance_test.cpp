// Acceptance tests derived from the paper's claims (method, section 12, items 1-5), and generation
// against recomputation.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "../support.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/task/generate.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

namespace {

using B = CpuBackend;
using X = Tensor<double, B>;
using V = Variable<double, B>;
using Model = decltype(model::make_hybridmed<double, B>(model::Config{}));
using Ids = std::vector<std::int32_t>;
using State = std::map<std::string, Values>;
using Batch = model::Batch<double, B>;
using Teacher = model::Teacher<double, B>;

constexpr Needs<SummarizationLogits, CaptioningLogits> both_logits{};

/// One study. An absent section has no ids.
struct Sample {
  Ids findings, impression;
  Values image;
  std::int32_t key = 0;
};

Ids section(Index length, std::uint64_t seed) {
  Ids ids{1};
  for (Index t = 1; t + 1 < length; ++t)
    ids.push_back(
        static_cast<std::int32_t>(3 + Philox(seed, 5).below(static_cast<std::uint64_t>(t), 500)));
  ids.push_back(2);
  return ids;
}
Values picture(std::uint64_t seed) { return normal(3 * 64 * 64, 900 + seed); }

/// All patterns of sections except "none": both, no findings, no impression, both with a repeated
/// impression, findings without words.
std::vector<Sample> studies() {
  std::vector<Sample> s{{section(9, 1), section(6, 2), picture(1), 11},
                        {{}, section(8, 3), picture(2), 12},
                        {section(7, 4), {}, picture(3), 13},
                        {section(12, 5), section(6, 2), picture(4), 11},
                        {section(2, 6), section(4, 7), picture(5), 14}};
  return s;
}

/// Sections of all samples, one after the other, as a loader holds them.
struct Packed {
  Ids ids, offsets{0};
  void add(const Ids& section) {
    ids.insert(ids.end(), section.begin(), section.end());
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
  }
  SectionView view() const { return {ids, offsets}; }
};

X images(const std::vector<Sample>& samples) {
  Values pixels;
  for (const Sample& s : samples) pixels.insert(pixels.end(), s.image.begin(), s.image.end());
  return tensor<double, B>(pixels, {static_cast<Index>(samples.size()), 3, 64, 64});
}
model::TextPlan<B> plan(const Model& m, const std::vector<Sample>& samples,
                        model::TextPlan<B>::Cls cls = model::TextPlan<B>::Cls::impression) {
  Packed findings, impression;
  Ids keys;
  for (const Sample& s : samples) {
    findings.add(s.findings);
    impression.add(s.impression);
    keys.push_back(s.key);
  }
  return m.plan(findings.view(), impression.view(), keys, cls);
}
Batch batch(const Model& m, const std::vector<Sample>& samples) {
  return {images(samples), plan(m, samples)};
}
/// The same with what the teacher says to it.
Batch taught(Batch b, const Teacher& teacher) {
  b.teacher_logits = teacher(b.text);
  return b;
}

/// An initialised model whose gains and biases are moved off 1 and 0, so that a forgotten one would
/// show.
Model make(const model::Config& c) {
  Model m = model::make_hybridmed<double, B>(c);
  system::Composed composed(m,
                            1.0 * InfoNce{});  // a system's parameters begin with its objective's
  nn::initialise(composed, 3);
  std::uint64_t seed = 40;
  nn::for_each_parameter(composed, [&](const std::string&, auto& p) {
    ++seed;
    if (p.value.shape().rank() != 1) return;
    Values x = values(p.value);
    const Values noise = normal(p.value.size(), seed, .1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += noise[i];
    p.value = tensor<double, B>(x, p.value.shape());
  });
  return m;
}
template <class F>
void for_each_preset(F&& f) {
  for (const std::string preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    CAPTURE(preset);
    const model::Config c = model::Config::preset(preset);
    Model m = make(c);
    f(m, c);
  }
}

template <class M>
State state(M& module) {
  State s;
  nn::for_each_state(
      module, [&](const std::string& name, auto& p) { s[name] = values(p.value); },
      [&](const std::string& name, auto& b) { s[name] = values(b.value); });
  return s;
}
template <class M>
void drop_gradients(M& module) {
  nn::for_each_parameter(module, [](const std::string&, auto& p) { p.slot.grad = {}; });
}
/// What the model computes of these needs, among which those that are not wanted stay unset.
template <class... R, class Set>
Representations<X, Set> represent(const Model& m, Needs<R...>, const Batch& b, const nn::Mode& mode,
                                  Set) {
  Representations<X, Set> r;
  (r.template want<R>(), ...);
  m.represent(b, mode, r);
  r.need_all();
  return r;
}
template <class Set>
Representations<X, Set> represent(const Model& m, Set needs, const Batch& b, const nn::Mode& mode) {
  return represent(m, needs, b, mode, needs);
}
/// Runs the objective of `composed` backward and leaves the gradients in it and in its model.
template <class C>
double differentiate(C& composed, const Batch& b, const nn::Mode& mode = nn::Mode::inspection()) {
  drop_gradients(composed);
  Tape tape;
  RecordOn on(tape);
  typename C::Losses losses;
  const V loss = composed.template total<V>(b, mode, losses);
  backward(loss);
  return loss.tensor.item();
}

/// Names that received a gradient, and those of them whose gradient is not zero.
struct Reached {
  std::set<std::string> defined, moving;
  bool any(std::string_view part) const {
    return std::any_of(defined.begin(), defined.end(),
                       [&](const std::string& n) { return n.find(part) != n.npos; });
  }
};
template <class C>
Reached reached(C& composed) {
  Reached r;
  nn::for_each_parameter(composed, [&](const std::string& name, auto& p) {
    if (!p.slot.grad.defined()) return;
    r.defined.insert(name);
    if (largest(values(p.slot.grad)) > 0) r.moving.insert(name);
  });
  return r;
}
std::set<std::string> names_with(Model& m, const std::vector<std::string_view>& parts) {
  std::set<std::string> found;
  nn::for_each_parameter(m, [&](const std::string& name, auto&) {
    for (std::string_view part : parts)
      if (("." + name).find(part) != std::string::npos) found.insert(name);
  });
  return found;
}

struct Logits {
  Values summarize, caption;
};
Logits logits(const Model& m, const std::vector<Sample>& samples) {
  const auto r = represent(m, both_logits, batch(m, samples), nn::Mode::evaluation());
  return {values(get<SummarizationLogits>(r).logits), values(get<CaptioningLogits>(r).logits)};
}
/// Rows of the captioning memory of every sample. Images are dear: tests that change texts alone
/// encode them once.
X caption_memory(const Model& m, const std::vector<Sample>& samples) {
  return m.memory(
      m.image.template operator()<X>(images(samples), nn::Mode::evaluation(), model::Levels::last)
          .levels[3]);
}
Logits logits(const Model& m, const model::TextPlan<B>& p, const X& memory) {
  const X encoded = m.text.template operator()<X>(p);
  const auto h = m.decoder(encoded, p, model::Branches{true, true},
                           slice_rows(encoded, 0, p.findings_rows), memory);
  return {values(m.decoder.fc_summarize(h.summarize)), values(m.decoder.fc_caption(h.caption))};
}
/// The first logit row of each sample in a branch; a sample of L impression tokens has L - 1.
std::vector<Index> first_rows(const std::vector<Sample>& samples, bool needs_findings) {
  std::vector<Index> first{0};
  for (const Sample& s : samples)
    first.push_back(first.back() + (s.impression.empty() || (needs_findings && s.findings.empty())
                                        ? 0
                                        : static_cast<Index>(s.impression.size()) - 1));
  return first;
}
/// Where two logit matrices differ, row by row.
std::vector<double> row_differences(const Values& a, const Values& b, Index cols) {
  REQUIRE(a.size() == b.size());
  std::vector<double> d;
  for (Index r = 0; r < static_cast<Index>(a.size()) / cols; ++r)
    d.push_back(difference(rows_of(a, cols, r, r + 1), rows_of(b, cols, r, r + 1)));
  return d;
}

template <class O>
std::vector<double> losses(Model& m, const O& objective, const std::vector<Sample>& samples,
                           const Teacher& teacher, const nn::Mode& mode) {
  const system::Composed composed(m, objective);
  const auto report = train::evaluate_step(composed, taught(batch(m, samples), teacher), mode);
  std::vector<double> out{report.total};
  for (const auto& l : report.losses) out.push_back(l.value.item());
  return out;
}

/// A teacher that differs from the model, so that distillation is not trivially 0.
Teacher other_teacher(const model::Config& c) {
  Model other = model::make_hybridmed<double, B>(c);
  nn::initialise(other, 99);
  return other.snapshot();
}

Index argmax(const Values& z) {
  return static_cast<Index>(std::max_element(z.begin(), z.end()) - z.begin());
}

/// The next token after `prefix` by the whole decoder without key/value cache; `picture`: the
/// captioning memory of the sample.
Index next_token(const Model& m, bool summarize, const Sample& sample, const X& picture,
                 const Ids& prefix) {
  Ids impression = prefix;
  impression.push_back(2);  // queries end one before the last token, so this one is never read
  // A sample without findings has no summarization rows in training: give it a placeholder and then
  // hide it.
  const Ids findings = sample.findings.empty() ? Ids{1, 2} : sample.findings;
  const Sample probe{findings, impression, sample.image, 0};
  model::TextPlan<B> p = plan(m, {probe});
  if (sample.findings.empty()) p.summarize.memory = Segments<B>(Ids{0, 0}, p.findings_rows);
  const X encoded = m.text.template operator()<X>(p);
  const auto h = m.decoder(encoded, p, model::Branches{summarize, !summarize},
                           slice_rows(encoded, 0, p.findings_rows), picture);
  const Values z =
      values(summarize ? m.decoder.fc_summarize(h.summarize) : m.decoder.fc_caption(h.caption));
  REQUIRE(static_cast<Index>(z.size()) == m.config.vocab * static_cast<Index>(prefix.size()));
  return argmax(Values(z.end() - m.config.vocab, z.end()));
}

}  // namespace

TEST_CASE("1. causality: a token changes no logit before it") {
  for_each_preset([](Model& m, const model::Config& c) {
    const std::vector<Sample> samples = studies();
    const Logits before = logits(m, samples);
    const std::vector<Index> sum = first_rows(samples, true), cap = first_rows(samples, false);
    REQUIRE(static_cast<Index>(before.summarize.size()) == sum.back() * c.vocab);
    REQUIRE(static_cast<Index>(before.caption.size()) == cap.back() * c.vocab);
    const X memory = caption_memory(m, samples);
    REQUIRE(difference(logits(m, plan(m, samples), memory).summarize, before.summarize) == 0);
    REQUIRE(difference(logits(m, plan(m, samples), memory).caption, before.caption) == 0);
    for (std::size_t b : {std::size_t{0}, std::size_t{1}, std::size_t{3}})
      for (Index t = 0; t < static_cast<Index>(samples[b].impression.size()); ++t) {
        CAPTURE(b);
        CAPTURE(t);
        std::vector<Sample> changed = samples;
        changed[b].impression[static_cast<std::size_t>(t)] = 400;
        const Logits after = logits(m, plan(m, changed), memory);
        const auto check = [&](const Values& x, const Values& y, Index first, Index end) {
          const auto d = row_differences(x, y, c.vocab);
          for (Index r = 0; r < static_cast<Index>(d.size()); ++r) {
            const bool may_change = r >= first + t && r < end;
            if (may_change)
              CHECK(d[static_cast<std::size_t>(r)] > 1e-6);
            else
              CHECK(d[static_cast<std::size_t>(r)] == 0);
          }
        };
        check(before.summarize, after.summarize, sum[b], sum[b + 1]);
        check(before.caption, after.caption, cap[b], cap[b + 1]);
      }
  });
}

TEST_CASE("1. causality of the text encoder, whose CLS sees everything and is seen by nobody") {
  for_each_preset([](Model& m, const model::Config& c) {
    using Cls = model::TextPlan<B>::Cls;
    const std::vector<Sample> samples{{section(7, 1), section(5, 2), {}, 0},
                                      {{}, section(4, 3), {}, 0}};
    const auto encode = [&](const std::vector<Sample>& s, Cls cls) {
      return values(m.text.template operator()<X>(plan(m, s, cls)));
    };
    const Values before = encode(samples, Cls::both);  // rows: 7 + CLS, CLS, 5 + CLS, 4 + CLS
    REQUIRE(static_cast<Index>(before.size()) == (8 + 1 + 6 + 5) * c.d);
    const auto check = [&](const std::vector<Sample>& changed, Index first, Index end) {
      const auto d = row_differences(before, encode(changed, Cls::both), c.d);
      for (Index r = 0; r < static_cast<Index>(d.size()); ++r)
        if (r >= first && r < end)
          CHECK(d[static_cast<std::size_t>(r)] > 1e-6);
        else
          CHECK(d[static_cast<std::size_t>(r)] == 0);
    };
    for (Index t = 0; t < 7; ++t) {
      std::vector<Sample> changed = samples;
      changed[0].findings[static_cast<std::size_t>(t)] = 400;
      check(changed, t, 8);  // itself, later ones, and CLS
    }
    for (Index t = 0; t < 5; ++t) {
      std::vector<Sample> changed = samples;
      changed[0].impression[static_cast<std::size_t>(t)] = 400;
      check(changed, 9 + t, 15);
    }
    // Tokens are the same whether or not a CLS follows them.
    const Values without = encode(samples, Cls::none);
    CHECK(difference(rows_of(without, c.d, 0, 7), rows_of(before, c.d, 0, 7)) <= 1e-12);
    CHECK(difference(rows_of(without, c.d, 7, 12), rows_of(before, c.d, 9, 14)) <= 1e-12);
    // CLS has no position of its own: moving the position row after the last token does not move
    // it.
    Values pos = values(m.text.pos.value);
    for (Index k = 7 * c.d; k < static_cast<Index>(pos.size()); ++k)
      pos[static_cast<std::size_t>(k)] += 1;
    m.text.pos.value = tensor<double, B>(pos, m.text.pos.value.shape());
    CHECK(difference(encode(samples, Cls::both), before) == 0);
  });
}

TEST_CASE("1. each branch reads its own memory only") {
  for_each_preset([](Model& m, const model::Config& c) {
    const std::vector<Sample> samples = studies();
    const auto b = batch(m, samples);
    const X encoded = m.text.template operator()<X>(b.text);
    const X findings = slice_rows(encoded, 0, b.text.findings_rows);
    const X memory = caption_memory(m, samples);
    const auto run = [&](const X& f, const X& i) {
      const auto h = m.decoder(encoded, b.text, model::Branches{true, true}, f, i);
      return Logits{values(m.decoder.fc_summarize(h.summarize)),
                    values(m.decoder.fc_caption(h.caption))};
    };
    const auto all = [](const std::vector<double>& d) {
      return *std::min_element(d.begin(), d.end());
    };
    const Logits before = run(findings, memory),
                 no_findings = run(X::zeros(findings.shape()), memory),
                 no_image = run(findings, X::zeros(memory.shape()));
    CHECK(difference(no_findings.caption, before.caption) == 0);
    CHECK(all(row_differences(no_findings.summarize, before.summarize, c.vocab)) > 1e-6);
    CHECK(difference(no_image.summarize, before.summarize) == 0);
    CHECK(all(row_differences(no_image.caption, before.caption, c.vocab)) > 1e-6);

    // The same through the whole model: another image, other findings.
    std::vector<Sample> changed = samples;
    changed[0].image = picture(77);
    Logits after = logits(m, changed);
    const Logits whole = logits(m, samples);
    const std::vector<Index> cap = first_rows(samples, false), sum = first_rows(samples, true);
    CHECK(difference(after.summarize, whole.summarize) == 0);
    auto d = row_differences(after.caption, whole.caption, c.vocab);
    for (Index r = 0; r < static_cast<Index>(d.size()); ++r)
      if (r < cap[1])
        CHECK(d[static_cast<std::size_t>(r)] > 1e-8);
      else
        CHECK(d[static_cast<std::size_t>(r)] <= 1e-12);
    changed = samples;
    changed[3].findings = section(12, 55);
    after = logits(m, changed);
    CHECK(difference(after.caption, whole.caption) == 0);
    d = row_differences(after.summarize, whole.summarize, c.vocab);
    for (Index r = 0; r < static_cast<Index>(d.size()); ++r)
      if (r >= sum[3] && r < sum[4])
        CHECK(d[static_cast<std::size_t>(r)] > 1e-6);
      else
        CHECK(d[static_cast<std::size_t>(r)] <= 1e-12);
  });
}

TEST_CASE(
    "2. both branches train one self-attention and feed-forward part, and nothing of each other") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto b = batch(m, studies());
    const auto teacher = other_teacher(c);
    const auto shared =
        names_with(m, {".decoder.blocks.0.sa.", ".decoder.blocks.1.sa.", ".ffn.",
                       ".decoder.blocks.0.ln1.", ".decoder.blocks.1.ln3.", ".decoder.norm."});
    CHECK(shared.size() == 2u * (4 + 4) + 2 + 2 + 2);
    const auto contains = [](const std::set<std::string>& all, const std::set<std::string>& part) {
      return std::includes(all.begin(), all.end(), part.begin(), part.end());
    };

    system::Composed captioning(m, 1.0 * Captioning{});
    differentiate(captioning, b);
    const Reached cap = reached(captioning);
    const Values cap_qkv = gradient(m.decoder.blocks[1].sa.qkv.weight),
                 cap_fc1 = gradient(m.decoder.blocks[0].ffn.fc1.weight);
    CHECK(contains(cap.moving, shared));
    CHECK(contains(cap.moving, names_with(m, {".cap.q.weight", ".cap.kv.weight", ".cap.proj.",
                                              ".cap.ln2.", ".cap.lnkv.", ".fc_cap.", ".memory."})));
    CHECK(contains(cap.moving, names_with(m, {".image.level_norm.3.", ".image.patch.weight",
                                              ".image.stem.weight"})));
    CHECK_FALSE(cap.any(".sum."));
    CHECK_FALSE(cap.any("fc_sum"));
    for (const std::string part : {"aggregator.", "proj.image", "proj.text", "log_scale"})
      CHECK_FALSE(cap.any(part));

    system::Composed summarization(m, 1.0 * Summarization{});
    differentiate(summarization, b);
    const Reached sum = reached(summarization);
    const Values sum_qkv = gradient(m.decoder.blocks[1].sa.qkv.weight),
                 sum_fc1 = gradient(m.decoder.blocks[0].ffn.fc1.weight);
    CHECK(contains(sum.moving, shared));
    CHECK(contains(sum.moving, names_with(m, {".sum.q.weight", ".sum.kv.weight", ".sum.proj.",
                                              ".sum.ln2.", ".sum.lnkv.", ".fc_sum."})));
    for (const std::string part :
         {".cap.", "fc_cap", "image", "memory.", "aggregator.", "proj.text", "log_scale"})
      CHECK_FALSE(sum.any(part));

    // One storage: the gradients of the two losses meet in it.
    system::Composed generation(m, Captioning{} + Summarization{});
    differentiate(generation, b);
    CHECK(difference(gradient(m.decoder.blocks[1].sa.qkv.weight),
                     test::values(add(tensor<double, B>(cap_qkv, {3 * c.d, c.d}),
                                      tensor<double, B>(sum_qkv, {3 * c.d, c.d})))) <= 1e-12);
    CHECK(difference(gradient(m.decoder.blocks[0].ffn.fc1.weight),
                     test::values(add(tensor<double, B>(cap_fc1, {4 * c.d, c.d}),
                                      tensor<double, B>(sum_fc1, {4 * c.d, c.d})))) <= 1e-12);

    // Distillation teaches the captioning branch alone.
    system::Composed distillation(m, 1.0 * LogitDistillation{});
    CHECK(differentiate(distillation, taught(b, teacher)) > 0);
    const Reached dis = reached(distillation);
    CHECK(contains(dis.moving, shared));
    CHECK(contains(dis.moving, names_with(m, {".cap.proj.", ".fc_cap."})));
    CHECK_FALSE(dis.any(".sum."));
    CHECK_FALSE(dis.any("fc_sum"));
    auto copy = teacher;
    nn::for_each_parameter(copy,
                           [](const std::string&, auto& p) { CHECK_FALSE(p.slot.grad.defined()); });
  });
}

TEST_CASE("2. global alignment alone computes and trains nothing local or generative") {
  for_each_preset([](Model& m, const model::Config&) {
    const auto b = batch(m, studies());
    const auto r = represent(m, InfoNce::needs, b, nn::Mode::inspection(), everything);
    CHECK(get<ImageGlobal>(r).projected.rows() == 4);  // the samples with an impression
    CHECK(get<ImpressionGlobal>(r).projected.rows() == 4);
    CHECK(test::values(get<ImpressionGlobal>(r).keys) == Values{11, 12, 11, 14});
    CHECK_THROWS_AS(get<ImageTokens>(r), Error);  // nothing else is set
    CHECK_THROWS_AS(get<FindingsTokens>(r), Error);
    CHECK_THROWS_AS(get<SummarizationLogits>(r), Error);
    CHECK_THROWS_AS(get<CaptioningLogits>(r), Error);
    CHECK_THROWS_AS(get<TeacherLogits>(r), Error);

    system::Composed global(m, 1.0 * InfoNce{});
    differentiate(global, b);
    const Reached cg = reached(global);
    for (const std::string part : {"decoder.", "aggregator.", "proj.text_local", "memory."})
      CHECK_FALSE(cg.any(part));
    for (const std::string name :
         {"proj.image_global.weight", "proj.text_global.weight", "log_scale", "text.cls",
          "text.norm.weight", "text.token_embed", "image.level_norm.3.weight"}) {
      CAPTURE(name);
      CHECK(cg.moving.count(name) == 1);
    }
    for (const std::string name :
         {"image.level_norm.0", "image.level_norm.1", "image.level_norm.2"})
      CHECK_FALSE(cg.any(name));

    system::Composed local(m, 1.0 * LocalAlignment{});
    differentiate(local, b);
    const Reached cl = reached(local);
    for (const std::string part :
         {"decoder.", "proj.text_global", "proj.image_global", "memory.", "log_scale", "text.norm"})
      CHECK_FALSE(cl.any(part));
    CHECK(cl.moving.count("text.cls") == 0);  // it sends nothing to the words
    for (const std::string name : {"proj.text_local.weight", "aggregator.level_embed",
                                   "aggregator.lateral.0.weight", "image.level_norm.0.weight"}) {
      CAPTURE(name);
      CHECK(cl.moving.count(name) == 1);
    }
  });
}

TEST_CASE("3. stage 1 leaves everything but the summarization side bit-identical") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto trained = [](const std::string& n) {  // method, section 5: E_T, SA, FFN, CA^sum,
                                                     // FC^sum and the norms between them
      return n.starts_with("text.") || n.starts_with("decoder.norm.") ||
             n.starts_with("decoder.fc_sum.") ||
             (n.starts_with("decoder.blocks.") && n.find(".cap.") == n.npos);
    };
    system::Composed stage1(m, system::HybridMed::summarization(c));
    system::Composed stage2(m, system::HybridMed::alignment(c));
    nn::for_each_parameter(stage2, [&](const std::string& n, auto& p) {  // log_scale too
      CAPTURE(n);
      CHECK(system::HybridMed::trains(0, n) == trained(n));
      CHECK(system::HybridMed::trains(1, n));
      p.trainable = system::HybridMed::trains(0, n);
    });
    optim::AdamW<double, B> optimizer(stage2, {});
    const State before = state(stage2);
    CHECK(before.count("log_scale") == 1);
    const Batch text_only{X(), plan(m, studies())};
    Tape tape;
    double first = 0, last = 0;
    for (int step = 0; step < 3; ++step) {
      last =
          train::train_step(stage1, text_only, optimizer, 1e-3, tape, nn::Mode::training()).total;
      if (step == 0) first = last;
    }
    CHECK(last < first);
    for (const auto& [name, now] : state(stage2)) {
      CAPTURE(name);
      const bool unused =
          name == "text.cls" ||
          name.starts_with(
              "text.norm.");  // CLS alone reads them: no gradient, and vectors do not decay
      if (trained(name) && !unused)
        CHECK(difference(now, before.at(name)) > 0);
      else
        CHECK(now == before.at(name));
    }
  });
}

TEST_CASE("3. stage 2 leaves the teacher bit-identical and trains the rest") {
  for_each_preset([](Model& m, const model::Config& c) {
    auto teacher = m.snapshot();
    system::Composed stage2(m, system::HybridMed::alignment(c));
    const State start = state(teacher), before = state(stage2);
    const auto b = batch(m, studies());
    const Values said = values(teacher(b.text));
    optim::AdamW<double, B> optimizer(stage2, {});
    Tape tape;
    double first = 0, last = 0;
    for (int step = 0; step < 3; ++step) {
      const auto report = train::train_step(stage2, taught(b, teacher), optimizer, 1e-3, tape,
                                            nn::Mode::training());
      CHECK(report.finite);
      CHECK(report.losses.size() == 5);
      CHECK(report.gradient_norm > 0);
      last = report.total;
      if (step == 0) first = last;
      for (const auto& l : report.losses) {
        CAPTURE(l.name);
        CHECK(l.value.item() >= 0);
      }
    }
    CHECK(last < first);
    CHECK(state(teacher) == start);
    CHECK(values(teacher(b.text)) == said);
    nn::for_each_parameter(teacher, [](const std::string& name, auto& p) {
      CAPTURE(name);
      CHECK_FALSE(p.slot.grad.defined());
      CHECK_FALSE(p.trainable);
    });
    for (const auto& [name, now] : state(stage2)) {
      CAPTURE(name);
      CHECK(difference(now, before.at(name)) > 0);  // running statistics move too
    }
  });
}

TEST_CASE("3. the snapshot says what the summarization branch says") {
  for_each_preset([](Model& m, const model::Config& c) {
    auto teacher = m.snapshot();
    const auto b = taught(batch(m, studies()), teacher);
    const auto r = represent(m, both_logits | Needs<TeacherLogits>{}, b, nn::Mode::evaluation());
    const X& summary = get<SummarizationLogits>(r).logits;
    const X& said = get<TeacherLogits>(r).logits;
    CHECK(said.shape() == summary.shape());
    CHECK(difference(values(said), values(summary)) <= 1e-12);
    const auto alone = represent(m, Needs<SummarizationLogits>{}, b, nn::Mode::evaluation());
    CHECK(difference(values(get<SummarizationLogits>(alone).logits), values(summary)) <=
          1e-12);  // with or without the other branch
    const auto other = represent(m, Needs<CaptioningLogits>{}, b, nn::Mode::evaluation());
    CHECK(difference(values(get<CaptioningLogits>(other).logits),
                     values(get<CaptioningLogits>(r).logits)) <= 1e-12);
    // The teacher holds no captioning weights, and every weight of it has its name in the model.
    const State mine = state(m);
    for (const auto& [name, value] : state(teacher)) {
      CAPTURE(name);
      CHECK(name.find("cap") == name.npos);
      REQUIRE(mine.count(name) == 1);
      CHECK(value == mine.at(name));
    }
    CHECK(nn::count_parameters(teacher.decoder) ==
          c.dec_blocks * (16 * c.d * c.d + (4 + 4 + 5) * c.d + 8 * c.d) + 2 * c.d + c.d * c.vocab);
  });
}

TEST_CASE("4. a sample without sections changes no loss") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto teacher = other_teacher(c);
    model::Config dedup = c;
    dedup.dedup_targets = true;
    dedup.label_smoothing_cg = .1;
    dedup.label_smoothing_gen = .1;
    dedup.tau_d = 2;
    dedup.local_agg = "sum";
    for (const model::Config& k : {c, dedup}) {
      const auto objective = system::HybridMed::alignment(k);
      const std::vector<Sample> samples = studies();
      const auto want = losses(m, objective, samples, teacher, nn::Mode::evaluation());
      for (double x : want) CHECK(x > 0);
      const auto places = k.dedup_targets ? std::vector<std::size_t>{2}
                                          : std::vector<std::size_t>{0, samples.size()};
      for (std::size_t at : places) {
        std::vector<Sample> more = samples;
        more.insert(more.begin() + static_cast<std::ptrdiff_t>(at),
                    Sample{{}, {}, picture(60), 21});
        CHECK(difference(losses(m, objective, more, teacher, nn::Mode::evaluation()), want) < 1e-9);
      }
      // Nobody has anything: every loss is exactly 0.
      const std::vector<Sample> nothing{{{}, {}, picture(60), 1}, {{}, {}, picture(61), 2}};
      CHECK(losses(m, objective, nothing, teacher, nn::Mode::evaluation()) ==
            std::vector<double>(6, 0.0));
      system::Composed composed(m, objective);
      CHECK(differentiate(composed, taught(batch(m, nothing), teacher)) == 0);
      nn::for_each_parameter(composed, [](const std::string& name, auto& p) {
        CAPTURE(name);
        CHECK(largest(gradient(p)) == 0);
      });
    }
  });
}

TEST_CASE("4. the order of the batch changes no loss") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto teacher = other_teacher(c);
    model::Config dedup = c;
    dedup.dedup_targets = true;
    for (const model::Config& k : {c, dedup})
      for (const nn::Mode& mode : {nn::Mode::evaluation(), nn::Mode::inspection()}) {
        if (k.dedup_targets && mode.statistics == nn::Mode::Statistics::batch) continue;
        const auto objective = system::HybridMed::alignment(k);
        std::vector<Sample> samples = studies();
        const auto want = losses(m, objective, samples, teacher, mode);
        std::rotate(samples.begin(), samples.begin() + 2, samples.end());
        std::swap(samples[0], samples[1]);
        CHECK(difference(losses(m, objective, samples, teacher, mode), want) < 1e-9);
      }
  });
}

TEST_CASE("4. a sample's text states do not depend on the rest of the batch") {
  for_each_preset([](Model& m, const model::Config&) {
    const std::vector<Sample> samples = studies();
    const auto embed = [&](const std::vector<Sample>& s) {
      const auto p = plan(m, s, model::TextPlan<B>::Cls::both);
      const X encoded = m.text.template operator()<X>(p);
      return std::pair{values(m.text.global(encoded, p.impression_cls)),
                       values(m.text.global(encoded, p.findings_cls))};
    };
    const auto [impressions, findings] = embed(samples);
    const Index d = m.config.d;
    for (Index b = 0; b < static_cast<Index>(samples.size()); ++b) {
      CAPTURE(b);
      const auto [one, two] = embed({samples[static_cast<std::size_t>(b)]});
      CHECK(difference(one, rows_of(impressions, d, b, b + 1)) <= 1e-12);
      CHECK(difference(two, rows_of(findings, d, b, b + 1)) <= 1e-12);
    }
    const auto whole = represent(m, InfoNce::needs, batch(m, samples), nn::Mode::evaluation());
    const auto alone = represent(m, InfoNce::needs, batch(m, {samples[3]}), nn::Mode::evaluation());
    const auto same = [&](const X& one, const X& all) {
      return difference(values(one), rows_of(values(all), m.config.d_e, 2, 3)) <= 1e-12;
    };
    CHECK(same(get<ImpressionGlobal>(alone).projected, get<ImpressionGlobal>(whole).projected));
    CHECK(same(get<ImageGlobal>(alone).projected, get<ImageGlobal>(whole).projected));
  });
}

TEST_CASE("5. the decoder has 20 d^2 L parameters, biases, norms and two output layers") {
  for_each_preset([](Model& m, const model::Config& c) {
    const Index d = c.d, biases = (3 + 1) * d + 2 * (1 + 2 + 1) * d + (4 + 1) * d,
                norms = 2 * 2 * d + 2 * 2 * 2 * d;
    CHECK(nn::count_parameters(m.decoder) ==
          c.dec_blocks * (20 * d * d + biases + norms) + 2 * d + 2 * d * c.vocab);
    Index matrices = 0;
    nn::for_each_parameter(m.decoder.blocks[0], [&](const std::string&, auto& p) {
      matrices += p.value.shape().rank() == 2 ? p.value.size() : 0;
    });
    CHECK(matrices == 20 * d * d);
  });
}

TEST_CASE("the temperature is clamped to [0, ln 100] after every step") {
  for_each_preset([](Model& m, const model::Config& c) {
    const auto b = batch(m, studies());
    system::Composed composed(m, 1.0 * system::info_nce(c));
    auto& log_scale = std::get<0>(composed.states().each).log_scale;
    optim::AdamW<double, B> optimizer(composed, {});
    Tape tape;
    const auto after = [&](double start) {
      log_scale.value = tensor<double, B>({start}, {});
      train::train_step(composed, b, optimizer, 1e-4, tape, nn::Mode::training());
      return log_scale.value.item();
    };
    CHECK(log_scale.value.item() == doctest::Approx(std::log(1 / .07)).epsilon(1e-14));
    CHECK(InfoNce{}.temperature.log_scale == c.log_scale_init);
    CHECK(InfoNce{}.temperature.log_scale_max == c.log_scale_max);
    CHECK(after(7) == doctest::Approx(std::log(100.0)).epsilon(1e-15));
    CHECK(after(-3) == 0);
    const double inside = after(2);
    CHECK(inside != 2);
    CHECK(std::abs(inside - 2) < 1e-3);
    CHECK(c.log_scale_max == doctest::Approx(std::log(100.0)).epsilon(1e-15));
  });
}

TEST_CASE("greedy generation with a cache equals recomputing the decoder at each prefix") {
  for_each_preset([](Model& m, const model::Config&) {
    const std::vector<Sample> samples = studies();  // sample 1 has no findings
    const task::GenerateOptions options{7, false};
    Packed findings;
    for (const Sample& s : samples) findings.add(s.findings);
    const task::Generated captions = task::caption(m, images(samples), options);
    const task::Generated summaries = task::summarize<double, B>(m, findings.view(), options);
    const X memory = caption_memory(m, samples);
    const Index places = memory.rows() / static_cast<Index>(samples.size());
    for (const bool summarize : {false, true})
      for (std::size_t b = 0; b < samples.size(); ++b) {
        const X picture =
            memory.row_slice(static_cast<Index>(b) * places, static_cast<Index>(b + 1) * places);
        const task::Generated& g = summarize ? summaries : captions;
        CAPTURE(summarize);
        CAPTURE(b);
        REQUIRE(g.ids.size() == samples.size());
        REQUIRE(g.ids[b].size() == 7);
        REQUIRE(g.margin[b].size() == 7);
        Ids prefix{1};
        for (std::size_t t = 0; t < 7; ++t) {
          CAPTURE(t);
          CHECK(g.margin[b][t] > 1e-9);  // no tie that rounding could break
          CHECK(next_token(m, summarize, samples[b], picture, prefix) == g.ids[b][t]);
          prefix.push_back(g.ids[b][t]);
        }
      }
    CHECK(std::set<Ids>(captions.ids.begin(), captions.ids.end()).size() +
              std::set<Ids>(summaries.ids.begin(), summaries.ids.end()).size() >
          2);  // the memories matter

    // A sample alone writes what it writes in a batch.
    for (std::size_t b : {std::size_t{1}, std::size_t{3}}) {
      Packed one;
      one.add(samples[b].findings);
      CHECK(task::caption(m, images({samples[b]}), options).ids[0] == captions.ids[b]);
      CHECK(task::summarize<double, B>(m, one.view(), options).ids[0] == summaries.ids[b]);
    }

    // Ends: EOS is kept and nothing follows it; the number of steps and of positions is respected.
    m.config.eos = summaries.ids[0][3];
    for (const bool stop : {true, false}) {
      const task::Generated g = task::summarize<double, B>(m, findings.view(), {7, stop});
      for (std::size_t b = 0; b < samples.size(); ++b) {
        Ids want = summaries.ids[b];
        const auto end =
            std::find(want.begin(), want.end(), static_cast<std::int32_t>(m.config.eos));
        if (stop && end != want.end()) want.erase(end + 1, want.end());
        CHECK(g.ids[b] == want);
        CHECK(g.margin[b].size() == want.size());
      }
    }
    CHECK(task::caption(m, images({samples[4]}), {1, false}).ids[0] == Ids{captions.ids[4][0]});
    CHECK(task::caption(m, images({samples[0]}), {1000, false}).ids[0].size() ==
          static_cast<std::size_t>(m.config.positions()));
  });
}
