// Sets of representations: what is wanted and what is not, the parts of a model that they take, the
// cut of the tape.
#include "studies.hpp"

using namespace hybridmed;
using namespace hybridmed::representation;
using namespace hybridmed::test;
using namespace hybridmed::test::studies_by_hand;

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
