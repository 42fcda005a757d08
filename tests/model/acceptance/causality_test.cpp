// Item 1: what comes later, and the memory of the other branch, changes no logit.
#include <algorithm>

#include "acceptance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

namespace {

struct Logits {
  Values summarize, caption;
};
Logits logits(const Model& m, const std::vector<Sample>& samples) {
  const auto r = represent(m, both_logits, batch(m, samples), nn::Mode::evaluation());
  return {values(get<SummarizationLogits>(r).logits), values(get<CaptioningLogits>(r).logits)};
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
