// Generation with a cache against recomputation.
#include <algorithm>
#include <set>

#include "acceptance.hpp"
#include "hybridmed/task/generate.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

namespace {

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
