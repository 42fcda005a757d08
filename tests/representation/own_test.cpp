// Representations that are a user's own.
#include "studies.hpp"

using namespace hybridmed;
using namespace hybridmed::representation;
using namespace hybridmed::test;
using namespace hybridmed::test::studies_by_hand;

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
