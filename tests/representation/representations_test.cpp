// Representations: sets of them, what HybridMED computes against a computation by hand, for which
// samples, the cut of the tape, and ones that are a user's own.
#include <doctest/doctest.h>

#include <set>

#include "../support.hpp"
#include "errors.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::representation;
using namespace hybridmed::test;

namespace {

using T = double;
using B = CpuBackend;
using X = Tensor<T, B>;
using V = Variable<T, B>;
using Model = model::HybridMed<T, B, model::AnyEncoder<T, B>>;
using Batch = model::Batch<T, B>;
using Ids = std::vector<std::int32_t>;

/// One study. An absent section has no ids.
struct Study {
  Ids findings, impression;
  std::uint64_t image = 0;
  std::int32_t key = 0;
};

constexpr Needs<ImageGlobal, ImpressionGlobal, ImageTokens, FindingsTokens, SummarizationLogits,
                CaptioningLogits>
    everything_but_teacher{};

/// Both sections; no findings; no impression; both, with the impression of the first; findings
/// without words.
const std::vector<Study> studies{{{1, 10, 11, 12, 13, 2}, {1, 20, 21, 2}, 1, 7},
                                 {{}, {1, 22, 23, 24, 2}, 2, 8},
                                 {{1, 14, 15, 16, 2}, {}, 3, 9},
                                 {{1, 17, 18, 19, 25, 26, 2}, {1, 20, 21, 2}, 4, 7},
                                 {{1, 2}, {1, 27, 2}, 5, 10}};
const Ids with_impression{0, 1, 3, 4}, with_words{0, 2, 3}, keys_present{7, 8, 7, 10};

Index length(const Ids& ids) { return static_cast<Index>(ids.size()); }

Batch batch_of(const Model& m, const std::vector<Study>& of) {
  Values pixels;
  Ids findings, f_offsets{0}, impression, i_offsets{0}, keys;
  for (const Study& s : of) {
    const Values picture = normal(3 * 64 * 64, 900 + s.image);
    pixels.insert(pixels.end(), picture.begin(), picture.end());
    findings.insert(findings.end(), s.findings.begin(), s.findings.end());
    impression.insert(impression.end(), s.impression.begin(), s.impression.end());
    f_offsets.push_back(static_cast<std::int32_t>(findings.size()));
    i_offsets.push_back(static_cast<std::int32_t>(impression.size()));
    keys.push_back(s.key);
  }
  return {tensor<T, B>(pixels, {static_cast<Index>(of.size()), 3, 64, 64}),
          m.plan({findings, f_offsets}, {impression, i_offsets}, keys)};
}

/// Weights drawn, vectors moved off 0 and 1.
Model make(const std::string& preset) {
  auto m = model::make_hybridmed<T, B>(model::Config::preset(preset));
  nn::initialise(m, 3);
  std::uint64_t seed = 40;
  nn::for_each_parameter(m, [&](const std::string&, auto& p) {
    ++seed;
    if (p.value.shape().rank() != 1) return;
    Values x = values(p.value);
    const Values noise = normal(p.value.size(), seed, 0.1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += noise[i];
    p.value = tensor<T, B>(x, p.value.shape());
  });
  return m;
}

template <Value W, class... R, class Set>
Representations<W, Set> computed(const Model& m, const Batch& b, Needs<R...>, Set) {
  Representations<W, Set> r;
  (r.template want<R>(), ...);
  m.represent(b, nn::Mode::evaluation(), r);
  r.need_all();
  return r;
}

// ---- by hand

/// Chosen rows of a matrix.
Values rows_at(const Values& x, Index cols, const std::vector<Index>& rows) {
  Values y;
  for (const Index r : rows) {
    const Values row = rows_of(x, cols, r, r + 1);
    y.insert(y.end(), row.begin(), row.end());
  }
  return y;
}
/// x (n, in) times the transpose of w (out, in).
Values times_transpose(const Values& x, const X& w) {
  const Values weight = values(w);
  const auto in = static_cast<std::size_t>(w.cols()), out = static_cast<std::size_t>(w.rows());
  Values y;
  for (std::size_t r = 0; r < x.size() / in; ++r)
    for (std::size_t o = 0; o < out; ++o) {
      double sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += x[r * in + k] * weight[o * in + k];
      y.push_back(sum);
    }
  return y;
}
Values layer_normed(Values x, const nn::LayerNorm<T, B>& norm) {
  const Values gain = values(norm.weight.value), shift = values(norm.bias.value);
  const std::size_t n = gain.size();
  for (std::size_t r = 0; r < x.size() / n; ++r) {
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < n; ++i) mean += x[r * n + i] / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i)
      square += (x[r * n + i] - mean) * (x[r * n + i] - mean) / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i)
      x[r * n + i] = (x[r * n + i] - mean) / std::sqrt(square + norm.eps) * gain[i] + shift[i];
  }
  return x;
}
/// Encoder rows as the packing says it: the findings of all studies, then their impressions, each
/// with a CLS after it.
struct Layout {
  std::vector<Index> findings, impression, cls;
  Layout() {
    Index row = 0;
    for (const Study& s : studies) {
      findings.push_back(row);
      row += length(s.findings);
    }
    for (const Study& s : studies) {
      impression.push_back(row);
      row += length(s.impression);
      cls.push_back(row++);
    }
  }
};
/// The logits of one study alone, by the parts of the model.
Values logits_alone(const Model& m, const Study& s, bool summarize) {
  const Batch b = batch_of(m, {s});
  const X encoded = m.text.template operator()<X>(b.text);
  const X picture =
      m.memory(m.image.template operator()<X>(b.image, nn::Mode::evaluation(), model::Levels::last)
                   .levels[3]);
  const auto h = m.decoder(encoded, b.text, model::Branches{summarize, !summarize},
                           slice_rows(encoded, 0, b.text.findings_rows), picture);
  return values(summarize ? m.decoder.fc_summarize(h.summarize) : m.decoder.fc_caption(h.caption));
}
/// What a decoder branch is to say: the next token of every impression token but the last.
struct Targets {
  Values token, sample;
  std::vector<std::size_t> studies_of;  // in order
};
Targets targets(bool needs_findings) {
  Targets t;
  for (std::size_t b = 0; b < studies.size(); ++b) {
    const Ids& said = studies[b].impression;
    if (said.empty() || (needs_findings && studies[b].findings.empty())) continue;
    t.studies_of.push_back(b);
    for (std::size_t k = 1; k < said.size(); ++k) {
      t.token.push_back(said[k]);
      t.sample.push_back(static_cast<double>(b));
    }
  }
  return t;
}
template <class I>
Values of_ids(const std::vector<I>& ids) {
  return Values(ids.begin(), ids.end());
}

template <class F>
void for_each_preset(F&& f) {
  for (const std::string preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    CAPTURE(preset);
    const Model m = make(preset);
    f(m);
  }
}

}  // namespace

TEST_CASE("global vectors: before and after the projection, of the samples with an impression") {
  for_each_preset([](const Model& m) {
    const Batch b = batch_of(m, studies);
    const auto check = [&](const auto& r) {
      const auto& image = get<ImageGlobal>(r);
      const auto features =
          m.image.template operator()<X>(b.image, nn::Mode::evaluation(), model::Levels::all);
      const Values global =
          rows_at(values(features.global), m.config.levels()[3].width, {0, 1, 3, 4});
      CHECK(value(image.encoded).shape() == Shape{4, m.config.levels()[3].width});
      CHECK(value(image.projected).shape() == Shape{4, m.config.d_e});
      CHECK(difference(values(value(image.encoded)), global) == 0);
      CHECK(difference(values(value(image.projected)),
                       times_transpose(global, m.proj.image_global.weight.value)) <= 1e-12);
      CHECK(values(image.samples) == of_ids(with_impression));

      const auto& text = get<ImpressionGlobal>(r);
      const Layout at;
      const X encoded = m.text.template operator()<X>(b.text);
      const Values said = layer_normed(
          rows_at(values(encoded), m.config.d, {at.cls[0], at.cls[1], at.cls[3], at.cls[4]}),
          m.text.norm);
      CHECK(value(text.encoded).shape() == Shape{4, m.config.d});
      CHECK(value(text.projected).shape() == Shape{4, m.config.d_e});
      CHECK(difference(values(value(text.encoded)), said) <= 1e-12);
      CHECK(difference(values(value(text.projected)),
                       times_transpose(said, m.proj.text_global.weight.value)) <= 1e-12);
      CHECK(values(text.samples) == of_ids(with_impression));
      CHECK(values(text.keys) == of_ids(keys_present));
      // Equal impressions have equal vectors, others do not.
      const Values d = values(value(text.encoded));
      const auto row = [&](Index i) { return rows_of(d, m.config.d, i, i + 1); };
      CHECK(difference(row(0), row(2)) <= 1e-12);
      CHECK(difference(row(0), row(1)) > 1e-3);
    };
    constexpr Needs<ImageGlobal, ImpressionGlobal> global{};
    check(computed<X>(m, b, global, global));
    check(computed<X>(m, b, everything_but_teacher, everything));
    Tape tape;
    RecordOn on(tape);
    check(computed<V>(m, b, global, global));
  });
}

TEST_CASE("tokens: regions and words of the samples whose findings have words") {
  for_each_preset([](const Model& m) {
    const Batch b = batch_of(m, studies);
    const auto check = [&](const auto& r) {
      const auto& image = get<ImageTokens>(r);
      const auto features =
          m.image.template operator()<X>(b.image, nn::Mode::evaluation(), model::Levels::all);
      const Index places = m.config.grid * m.config.grid;
      const X regions = m.aggregator(features.levels);
      REQUIRE(regions.shape() == Shape{5 * places, m.config.d_e});
      Values want;
      for (const Index s : {0, 2, 3}) {
        const Values one = rows_of(values(regions), m.config.d_e, s * places, (s + 1) * places);
        want.insert(want.end(), one.begin(), one.end());
      }
      CHECK(image.images == 3);
      CHECK(value(image.regions).shape() == Shape{3 * places, m.config.d_e});
      CHECK(difference(values(value(image.regions)), want) == 0);
      CHECK(values(image.samples) == of_ids(with_words));

      const auto& findings = get<FindingsTokens>(r);
      const Layout at;
      std::vector<Index> rows, offsets{0};
      for (const std::size_t s : {0, 2, 3}) {
        for (Index t = 1; t + 1 < length(studies[s].findings); ++t)
          rows.push_back(at.findings[s] + t);
        offsets.push_back(static_cast<Index>(rows.size()));
      }
      const X encoded = m.text.template operator()<X>(b.text);
      CHECK(rows.size() == 4 + 3 + 5);
      CHECK(value(findings.words).shape() == Shape{12, m.config.d_e});
      CHECK(difference(values(value(findings.words)),
                       times_transpose(rows_at(values(encoded), m.config.d, rows),
                                       m.proj.text_local.weight.value)) <= 1e-12);
      CHECK(values(findings.offsets) == of_ids(offsets));
      CHECK(values(findings.samples) == of_ids(with_words));
    };
    constexpr Needs<ImageTokens, FindingsTokens> tokens{};
    check(computed<X>(m, b, tokens, tokens));
    check(computed<X>(m, b, everything_but_teacher, everything));
    Tape tape;
    RecordOn on(tape);
    check(computed<V>(m, b, tokens, tokens));
  });
}

TEST_CASE("logits: of which token of which sample, each as its study alone has them") {
  for_each_preset([](const Model& m) {
    const Batch b = batch_of(m, studies);
    const Index vocabulary = m.config.vocab;
    const auto check = [&](const auto& r) {
      const auto& sum = get<SummarizationLogits>(r);
      const auto& cap = get<CaptioningLogits>(r);
      const auto check_branch = [&](const auto& branch, bool summarize) {
        const Targets want = targets(summarize);
        CHECK(values(branch.target) == want.token);
        CHECK(values(branch.samples) == want.sample);
        Values alone;
        for (const std::size_t s : want.studies_of) {
          const Values one = logits_alone(m, studies[s], summarize);
          alone.insert(alone.end(), one.begin(), one.end());
        }
        CHECK(value(branch.logits).shape() ==
              Shape{static_cast<Index>(want.token.size()), vocabulary});
        CHECK(difference(values(value(branch.logits)), alone) <= 1e-11);
      };
      check_branch(sum, true);
      check_branch(cap, false);
      // Studies 0, 3 and 4 have both sections: 3, 3 and 2 targets, around the 4 of study 1.
      CHECK(values(cap.with_findings) == Values{0, 1, 2, 7, 8, 9, 10, 11});
      CHECK_FALSE(cap.all_with_findings);
    };
    constexpr Needs<SummarizationLogits, CaptioningLogits> logits{};
    check(computed<X>(m, b, logits, logits));
    check(computed<X>(m, b, everything_but_teacher, everything));
    Tape tape;
    RecordOn on(tape);
    check(computed<V>(m, b, logits, logits));

    // Where every impression has findings, those are all of them.
    const Batch both = batch_of(m, {studies[0], studies[2], studies[3]});
    const auto r = computed<X>(m, both, logits, logits);
    CHECK(get<CaptioningLogits>(r).all_with_findings);
    CHECK(values(get<CaptioningLogits>(r).with_findings) == Values{0, 1, 2, 3, 4, 5});
    CHECK(values(get<CaptioningLogits>(r).samples) == Values{0, 0, 0, 2, 2, 2});
  });
}

TEST_CASE("teacher logits are the batch's, at the targets of the summarization branch") {
  Model m = make("tiny");
  const auto teacher = m.snapshot();
  Batch b = batch_of(m, studies);
  b.teacher_logits = teacher(b.text);
  constexpr Needs<SummarizationLogits, TeacherLogits> needs{};
  const auto r = computed<X>(m, b, needs, needs);
  CHECK(get<TeacherLogits>(r).logits.data() == b.teacher_logits.data());
  CHECK(difference(values(get<TeacherLogits>(r).logits),
                   values(get<SummarizationLogits>(r).logits)) <= 1e-12);
  b.teacher_logits = {};
  CHECK(holds(error_of([&] { computed<X>(m, b, needs, needs); }), "the batch has none"));
}

TEST_CASE("what is not wanted is not set, and to read it names it") {
  const Model m = make("tiny");
  const Batch b = batch_of(m, studies);
  const auto r = computed<X>(m, b, Needs<FindingsTokens>{}, everything);
  CHECK(r.wants<FindingsTokens>());
  CHECK_FALSE(r.wants<ImageGlobal>());
  CHECK(r.reads() == findings);
  CHECK(get<FindingsTokens>(r).words.defined());
  const auto refused = [&]<class R>(R*) {
    const std::string e = error_of([&] { get<R>(r); });
    CHECK_MESSAGE(holds(e, "'" + std::string(R::name) + "'"), e);
    CHECK_MESSAGE(holds(e, "has not computed it"), e);
  };
  refused(static_cast<ImageGlobal*>(nullptr));
  refused(static_cast<ImpressionGlobal*>(nullptr));
  refused(static_cast<ImageTokens*>(nullptr));
  refused(static_cast<SummarizationLogits*>(nullptr));
  refused(static_cast<CaptioningLogits*>(nullptr));
  refused(static_cast<TeacherLogits*>(nullptr));

  Representations<X, std::remove_cvref_t<decltype(everything)>> none;
  CHECK(none.reads() == no_input);
  m.represent(Batch{}, nn::Mode::evaluation(), none);  // nothing is computed
  none.need_all();
  int members = 0;
  none.visit([&](auto&) { ++members; });
  CHECK(members == 0);
}

TEST_CASE("a model has the parts that its needs are computed by, and says which it lacks") {
  const auto c = model::Config::preset("tiny");
  const auto m = model::make_hybridmed<T, B>(c, Needs<ImageGlobal, ImpressionGlobal>{});
  CHECK((m.parts().image_global && m.parts().text_global));
  CHECK_FALSE(
      (m.parts().regions || m.parts().words || m.parts().summarization || m.parts().captioning));
  CHECK(model::parts_of(everything).hold(m.parts()));
  CHECK_FALSE(m.parts().hold(model::parts_of(Needs<ImageTokens>{})));
  CHECK(m.parts().hold(model::parts_of(Needs<TeacherLogits>{})));
  const Batch b = batch_of(m, studies);
  const auto refused = [&](auto needs) {
    return error_of([&] { computed<X>(m, b, needs, everything); });
  };
  CHECK(refused(Needs<ImageGlobal>{}) == "");
  for (const std::string& e :
       {refused(Needs<ImageTokens>{}), refused(Needs<FindingsTokens>{}),
        refused(Needs<SummarizationLogits>{}), refused(Needs<ImageGlobal, CaptioningLogits>{})})
    CHECK_MESSAGE(holds(e, "a part that this model was built without"), e);
}

TEST_CASE("sets of representations: union, order, inclusion, inputs") {
  constexpr Needs<ImageGlobal, ImpressionGlobal> global{};
  constexpr Needs<ImageTokens, FindingsTokens> tokens{};
  constexpr auto both = global | tokens | global;
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(both)>,
                               Needs<ImageGlobal, ImpressionGlobal, ImageTokens, FindingsTokens>>);
  static_assert(std::is_same_v<decltype(Needs<>{} | tokens), Needs<ImageTokens, FindingsTokens>>);
  static_assert(std::is_same_v<decltype(tokens | Needs<>{}), Needs<ImageTokens, FindingsTokens>>);
  static_assert(both.size == 4 && both.reads == (an_image | findings | impression));
  static_assert(Needs<>::reads == no_input && Needs<ImageTokens>::reads == an_image);
  static_assert(within(global, both) && within(Needs<>{}, Needs<>{}) && !within(both, global));
  static_assert(within(both, everything) && !within(Needs<SummarizationLogits>{}, both));
  static_assert(decltype(both)::has<FindingsTokens> && !decltype(both)::has<TeacherLogits>);
}

TEST_CASE("detach cuts the gradient to the model and leaves every value as it is") {
  Model m = make("tiny");
  const Batch b = batch_of(m, studies);
  const auto sum = 1.0 * objective::InfoNce{} + objective::LocalAlignment{} +
                   objective::Summarization{} + objective::Captioning{};
  objective::States<T, B, std::remove_cvref_t<decltype(sum)>> states(sum);
  double value_of_first = 0;
  for (const bool cut : {false, true}) {
    CAPTURE(cut);
    nn::for_each_parameter(m, [](const std::string&, auto& p) { p.slot.grad = {}; });
    nn::for_each_parameter(states, [](const std::string&, auto& p) { p.slot.grad = {}; });
    Tape tape;
    RecordOn on(tape);
    auto r = sum.wanted<V>();
    m.represent(b, nn::Mode::evaluation(), r);
    std::vector<const void*> before, after;
    int recorded = 0;
    const auto look = [&](std::vector<const void*>& memory) {
      recorded = 0;
      r.visit([&]<class Member>(Member& member) {
        if constexpr (std::is_same_v<Member, V>) {
          recorded += member.slot != nullptr;
          memory.push_back(member.tensor.data());
        } else if constexpr (requires { member.data(); }) {
          memory.push_back(member.data());
        }
      });
    };
    look(before);
    CHECK(recorded == 2 + 2 + 1 + 1 + 1 + 1);
    CHECK(before.size() == 8 + 11);  // indices too
    if (cut) detach(r);
    look(after);
    CHECK(after == before);
    CHECK(recorded == (cut ? 0 : 8));
    CHECK(get<ImageTokens>(r).images == 3);
    CHECK_FALSE(get<CaptioningLogits>(r).all_with_findings);

    objective::Losses<T, B> losses;
    const V loss = sum(r, states, losses);
    if (!cut) value_of_first = loss.tensor.item();
    CHECK(loss.tensor.item() == value_of_first);
    backward(loss);
    std::set<std::string> reached;
    nn::for_each_parameter(m, [&](const std::string& name, auto& p) {
      if (p.slot.grad.defined()) reached.insert(name);
    });
    if (cut)
      CHECK(reached.empty());
    else
      CHECK(reached.size() > 100);
    // The objective's own parameter learns from constants too.
    CHECK(std::abs(gradient(std::get<0>(states.each).log_scale)[0]) > 1e-3);
  }
}

namespace {

/// A representation of a user's own: what a model makes of the patients' ages.
struct Age {
  static constexpr std::string_view name = "age";
  static constexpr unsigned reads = no_input;
  template <Value W>
  struct Of {
    W vector;  // (n, d_e)
    template <class F>
    void visit(F&& f) {
      f(vector);
    }
  };
};

/// An objective that reads it, and one of the library's.
struct AgeDistance {
  static constexpr std::string_view name = "age";
  static constexpr Needs<Age, ImageGlobal> needs{};
  template <Value W, class N>
  W operator()(const Representations<W, N>& r) const {
    const W d = add(get<Age>(r).vector, scale(get<ImageGlobal>(r).projected, -1));
    return mean(multiply(d, d));
  }
};

/// A model around HybridMED's: it sets what it brings, the rest as before.
struct WithAge {
  using Scalar = T;
  using Backend = B;
  struct Batch {
    model::Batch<T, B> study;
    X years;  // (n, 1)
  };
  Model inside;
  nn::Linear<T, B> age;

  explicit WithAge(const model::Config& c)
      : inside(model::make_hybridmed<T, B>(c, AgeDistance::needs)), age(1, c.d_e) {}
  template <class F>
  void visit(F&& f) {
    inside.visit(f);
    f("age", age);
  }
  template <Value W, class N>
  void represent(const Batch& b, const nn::Mode& mode, Representations<W, N>& r) const {
    inside.represent(b.study, mode, r);
    if constexpr (N::template has<Age>)
      if (r.template wants<Age>()) r.template set<Age>({age(W(b.years))});
  }
};

/// The same, and it forgets to.
struct WithoutAge : WithAge {
  using WithAge::WithAge;
  template <Value W, class N>
  void represent(const Batch& b, const nn::Mode& mode, Representations<W, N>& r) const {
    inside.represent(b.study, mode, r);
  }
};

WithAge::Batch aged(const Model& m) {
  const std::vector<Study> two{studies[0], studies[3]};
  return {batch_of(m, two), tensor<T, B>({0.4, 0.7}, {2, 1})};
}

}  // namespace

TEST_CASE("a representation of one's own: a model sets it, an objective reads it, a step trains") {
  WithAge m(model::Config::preset("tiny"));
  nn::initialise(m, 1);
  CHECK_FALSE(m.inside.parts().text_global);  // an unknown representation takes no part
  system::Composed composed(m, 1.0 * AgeDistance{});
  optim::AdamW<T, B> optimizer(composed, {});
  Tape tape;
  const auto batch = aged(m.inside);
  const Values before = values(m.age.weight.value);

  const auto features =
      m.inside.image.operator()<X>(batch.study.image, nn::Mode::evaluation(), model::Levels::last);
  const Values image =
      times_transpose(values(features.global), m.inside.proj.image_global.weight.value);
  double want = 0;
  for (std::size_t i = 0; i < image.size(); ++i) {
    const std::size_t d = before.size();
    const double age = (i < d ? 0.4 : 0.7) * before[i % d];
    want += (age - image[i]) * (age - image[i]) / static_cast<double>(image.size());
  }
  const auto plain = train::evaluate_step(composed, batch, nn::Mode::evaluation());
  CHECK(plain.losses[0].name == "age");
  CHECK(std::abs(plain.total - want) <= 1e-12);
  double last = plain.total;
  for (int step = 0; step < 3; ++step)
    last = train::train_step(composed, batch, optimizer, 1e-3, tape, nn::Mode::evaluation()).total;
  CHECK(last < plain.total);
  CHECK(difference(values(m.age.weight.value), before) > 1e-4);
}

TEST_CASE("a representation that no model sets is refused by name") {
  WithoutAge m(model::Config::preset("tiny"));
  nn::initialise(m, 1);
  const auto batch = aged(m.inside);
  const auto refused = [&](const auto& objective) {
    const system::Composed composed(m, objective);
    return error_of([&] { train::evaluate_step(composed, batch, nn::Mode::evaluation()); });
  };
  const std::string e = refused(1.0 * AgeDistance{});
  CHECK_MESSAGE(e.starts_with("[hybridmed.objective]"), e);
  CHECK_MESSAGE(holds(e, "'age', which this model does not compute"), e);
  CHECK_MESSAGE(holds(e, "represent()"), e);
  CHECK(refused(objective::observe(AgeDistance{}) + 0.0 * AgeDistance{}) == e);
  // Nobody wants it: nobody misses it.
  Representations<X, Needs<Age, ImageGlobal>> r;
  r.want<ImageGlobal>();
  m.represent(batch, nn::Mode::evaluation(), r);
  r.need_all();
  r.want<Age>();
  CHECK(holds(error_of([&] { r.need_all(); }), "'age'"));
  CHECK(holds(error_of([&] { get<Age>(r); }), "'age'"));
}
