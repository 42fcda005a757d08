// Item 4: absent sections, the order of a batch and the rest of it change no loss.
#include <algorithm>

#include "gradients.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

namespace {

template <class O>
std::vector<double> losses(Model& m, const O& objective, const std::vector<Sample>& samples,
                           const Teacher& teacher, const nn::Mode& mode) {
  const system::Composed composed(m, objective);
  const auto report = train::evaluate_step(composed, taught(batch(m, samples), teacher), mode);
  std::vector<double> out{report.total};
  for (const auto& l : report.losses) out.push_back(l.value.item());
  return out;
}

}  // namespace

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
