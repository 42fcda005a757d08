// The values of the representations: what HybridMED computes against a computation by hand, and of
// which samples.
#include "studies.hpp"

using namespace hybridmed;
using namespace hybridmed::representation;
using namespace hybridmed::test;
using namespace hybridmed::test::studies_by_hand;

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
