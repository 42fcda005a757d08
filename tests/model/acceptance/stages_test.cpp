// Item 3: what each stage trains, and the teacher.
#include <map>

#include "acceptance.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::objective;
using namespace hybridmed::representation;

namespace {

using State = std::map<std::string, Values>;

template <class M>
State state(M& module) {
  State s;
  nn::for_each_state(
      module, [&](const std::string& name, auto& p) { s[name] = values(p.value); },
      [&](const std::string& name, auto& b) { s[name] = values(b.value); });
  return s;
}

}  // namespace

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
