#pragma once
// A system from a recipe: a name, and for a configuration the weighted sum of each stage. That is
// all that most systems are.
#include <concepts>
#include <optional>
#include <tuple>
#include <utility>

#include "hybridmed/system/composed.hpp"
#include "hybridmed/system/system.hpp"

namespace hybridmed::system {

/// One stage of a recipe.
template <class Objective>
struct StageRecipe {
  const char* purpose;
  Objective objective;
};
template <class Objective>
StageRecipe(const char*, Objective) -> StageRecipe<Objective>;

/// A recipe has `static constexpr std::string_view name` and `static auto stages(const
/// model::Config&)`, a tuple of StageRecipe. Two more members are optional: `static bool trains(
/// std::size_t stage, std::string_view parameter)`, and `template <class T, class B> static auto
/// model(const model::Config&)` for a model of its own; without it the model is HybridMed's, with
/// the parts that the objectives need. See docs/policies/system.md.
template <class R>
concept Recipe = requires(const model::Config& c) {
  { R::name } -> std::convertible_to<std::string_view>;
  std::tuple_size<decltype(R::stages(c))>::value;
};

namespace detail {
template <class R>
struct StagesOf {
  using type = void;
};
template <Recipe R>
struct StagesOf<R> {
  using type = decltype(R::stages(std::declval<const model::Config&>()));
};
template <class Stages>
struct NeedsOf;
template <class... O>
struct NeedsOf<std::tuple<StageRecipe<O>...>> {
  static constexpr auto needs = (representation::Needs<>{} | ... | O::needs);
};
}  // namespace detail

/// Does a recipe say at which gamma1 its local scores are computed?
template <class R>
inline constexpr bool has_scored_gamma1 = requires {
  R::scored_gamma1;
};

/// Does a recipe bring a model of its own?
template <class R, class T, class B>
inline constexpr bool has_own_model = requires(const model::Config& c) {
  R::template model<T, B>(c);
};

namespace detail {
/// Does a recipe choose what its stages train?
template <class R>
inline constexpr bool has_trains = requires(std::size_t stage, std::string_view parameter) {
  { R::trains(stage, parameter) } -> std::convertible_to<bool>;
};
/// Is there a member of that name, of whatever form? What is misspelt by its form would be left
/// out without a word.
template <class R, class T, class B>
inline constexpr bool names_model = requires {
  &R::model;
}
|| requires { &R::template model<T, B>; };
template <class R>
inline constexpr bool names_trains = requires {
  &R::trains;
};
/// What a run asks of a recipe's model.
template <class M, class T, class B>
concept PlansTexts = std::same_as<typename M::Batch, model::Batch<T, B>> &&
    requires(const M& m, const SectionView& section, std::span<const std::int32_t> keys) {
  { m.plan(section, section, keys) } -> std::convertible_to<model::TextPlan<B>>;
};
}  // namespace detail

/// The objectives of a recipe's stages.
template <class R>
using stages_of = typename detail::StagesOf<R>::type;

/// What the objectives of all stages need.
template <class R>
inline constexpr auto needs_of_recipe = detail::NeedsOf<stages_of<R>>::needs;

/// What a stage is for, and its losses.
template <class Objective>
Stage described(const StageRecipe<Objective>& recipe) {
  Stage s{recipe.purpose, {}};
  recipe.objective.each([&]<class O>(const objective::Weighted<O>& term) {
    using Set = objective::needs_of<O>;
    s.losses.push_back({std::string(O::name), term.weight, term.observed, Set::reads,
                        objective::compares_samples<O>,
                        Set::template has<representation::TeacherLogits>});
  });
  return s;
}

namespace detail {
/// An objective that cannot be compared may have changed; one that is not computed is none.
template <class... O>
bool surely_same(const objective::WeightedSum<O...>& a, const objective::WeightedSum<O...>& b) {
  const auto same = []<class X>(const objective::Weighted<X>& x, const objective::Weighted<X>& y) {
    if (!x.active() && !y.active()) return true;
    if constexpr (std::equality_comparable<X>)
      return x.weight == y.weight && x.observed == y.observed && x.objective == y.objective;
    else
      return false;
  };
  return [&]<std::size_t... i>(std::index_sequence<i...>) {
    return (same(std::get<i>(a.terms), std::get<i>(b.terms)) && ...);
  }
  (std::index_sequence_for<O...>());
}
template <class... O>
bool surely_same(const std::tuple<StageRecipe<O>...>& a, const std::tuple<StageRecipe<O>...>& b) {
  return [&]<std::size_t... i>(std::index_sequence<i...>) {
    return (surely_same(std::get<i>(a).objective, std::get<i>(b).objective) && ...);
  }
  (std::index_sequence_for<O...>());
}

/// Does the model of these parts read a key of its own configuration? Of the objectives' and the
/// image encoder's keys, whose readers are compared, it says yes.
inline bool reads(const model::Parts& parts, std::string_view key) {
  const bool decodes = parts.summarization || parts.captioning;
  if (key == "dec_blocks") return decodes;
  if (key == "grid" || key == "d_a") return parts.regions;
  if (key == "t_findings") return parts.words || parts.summarization;
  return true;
}
}  // namespace detail

/// The keys that are not as usual (the preset's, where the configuration is called like one) and
/// change nothing: neither the losses of a recipe nor the local scores of its model read them, nor
/// the encoder that is chosen, nor the parts that the recipe's model has. None for a recipe with a
/// model of its own, of which nothing is known.
template <Recipe R, class T, class B>
std::vector<std::string> unread_keys(const model::Config& config) {
  constexpr model::Parts parts = model::parts_of(needs_of_recipe<R>);
  std::vector<std::string> keys;
  if constexpr (has_own_model<R, T, B>) return keys;
  model::Config usual = model::Config::usual(config.name), changed = config;
  const auto stages = R::stages(config);
  const auto is_unread = [&](const Key& key) {
    if (key.name == "name" || key.name == "patch") return false;  // of every encoder
    if (key.part == model::Config::image_encoder) return config.same_image_encoder(changed);
    if (key.part != model::Config::objectives) return !detail::reads(parts, key.name);
    const bool scores = parts.regions && parts.words &&
                        (key.name == "gamma2" || (key.name == "gamma1" && !has_scored_gamma1<R>));
    return !scores && detail::surely_same(stages, R::stages(changed));
  };
  changed.visit([&](const Key& key, auto& field) {
    usual.visit([&](std::string_view name, auto& usual_field) {
      if constexpr (std::is_same_v<decltype(field), decltype(usual_field)>) {
        if (name != key.name || field == usual_field) return;
        const auto given = std::exchange(field, usual_field);
        if (is_unread(key)) keys.emplace_back(name);
        field = given;
      }
    });
  });
  return keys;
}

template <class R, class T, class B>
auto model_of_recipe(const model::Config& c) {
  if constexpr (has_own_model<R, T, B>)
    return R::template model<T, B>(c);
  else
    return model::make_hybridmed<T, B>(c, needs_of_recipe<R>);
}

template <class R, class T, class B, class Stages = stages_of<R>>
class SystemOf {
  static_assert(sizeof(R) == 0,
                "hybridmed: a system is made from a recipe with static members name and "
                "stages(config), a tuple of StageRecipe; see docs/policies/system.md");
};

/// The system of recipe R. Its parameters: those of the objectives, last stage first, then the
/// model's.
template <class R, class T, class B, class... O>
class SystemOf<R, T, B, std::tuple<StageRecipe<O>...>> final : public System<T, B> {
  using Base = System<T, B>;
  using M = master_of<T>;
  using Model = decltype(model_of_recipe<R, T, B>(std::declval<const model::Config&>()));
  template <class X>
  using Part = Composed<Model, X>;
  static constexpr bool distils = needs_of_recipe<R>.template has<representation::TeacherLogits>;
  static_assert(sizeof...(O) > 0,
                "hybridmed: a system is made from a recipe with static members name and "
                "stages(config), a tuple of StageRecipe; see docs/policies/system.md");
  static_assert(has_own_model<R, T, B> || !detail::names_model<R, T, B>,
                "hybridmed: a recipe's own model is template <class T, class B> static auto "
                "model(const model::Config&); see docs/policies/system.md");
  static_assert(detail::has_trains<R> || !detail::names_trains<R>,
                "hybridmed: what a recipe trains is static bool trains(std::size_t stage, "
                "std::string_view parameter); see docs/policies/system.md");
  static_assert(detail::PlansTexts<Model, T, B>,
                "hybridmed: the model of a recipe has a type Batch, which is model::Batch<T, B>, "
                "and plan(findings, impression, keys) const, which makes the model::TextPlan<B> of "
                "a batch; see docs/policies/system.md");

 public:
  using typename Base::Batch;
  using typename Base::Losses;

  /// @throws Error where the objectives of two stages have parameters of one name.
  explicit SystemOf(const model::Config& config)
      : SystemOf(config, R::stages(config), std::index_sequence_for<O...>()) {}

  Model& model() { return model_; }
  std::string_view name() const override { return R::name; }
  const std::vector<Stage>& stages() const override { return stages_; }
  const std::vector<std::string>& unread_keys() const override { return unread_keys_; }

  void each_state(const typename Base::OnParameter& parameter,
                  const typename Base::OnBuffer& buffer) override {
    objective_states(parameter, buffer, std::index_sequence_for<O...>());
    nn::for_each_state(model_, parameter, buffer);
  }
  void each_teacher_state(const typename Base::OnParameter& parameter,
                          const typename Base::OnBuffer& buffer) override {
    if constexpr (distils)
      if (teacher_) nn::for_each_state(*teacher_, parameter, buffer);
  }
  bool has_teacher() const override {
    if constexpr (distils)
      return teacher_.has_value();
    else
      return false;
  }

  void begin_stage(std::size_t k) override {
    need_stage(k);
    each_state([&](const std::string& name,
                   Parameter<T, B>& p) { p.trainable = !p.fixed && trains(k, name); },
               [](const std::string&, Buffer<T, B>&) {});
    for (std::size_t i = 0; i < sizeof...(O); ++i)
      if (i != k)
        at(i, [](auto& part) {  // the objectives of another stage learn in theirs
          nn::for_each_parameter(
              part.states(), [](const std::string&, Parameter<T, B>& p) { p.trainable = false; });
        });
    if constexpr (distils) {
      teacher_.reset();
      at(k, [&](const auto& part) {
        if (part.objective().template reads<representation::TeacherLogits>())
          teacher_.emplace(model_.snapshot());
      });
    }
  }
  void begin_epoch(std::size_t k, Index epoch) override {
    at(k, [&](auto& part) { part.begin_epoch(epoch); });
  }

  model::TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                          std::span<const std::int32_t> keys) const override {
    return model_.plan(findings, impression, keys);
  }

  Variable<M, B> recorded_total(std::size_t k, const Batch& batch, const nn::Mode& mode,
                                Losses& losses) const override {
    return total<Variable<M, B>>(k, batch, mode, losses);
  }
  Tensor<M, B> plain_total(std::size_t k, const Batch& batch, const nn::Mode& mode,
                           Losses& losses) const override {
    return total<Tensor<M, B>>(k, batch, mode, losses);
  }
  void constrain(std::size_t k) override {
    at(k, [](auto& part) { part.constrain(); });
  }

 private:
  template <std::size_t... i>
  SystemOf(const model::Config& config, std::tuple<StageRecipe<O>...> recipes,
           std::index_sequence<i...>)
      : model_(model_of_recipe<R, T, B>(config)),
        parts_(Part<O>(model_, std::get<i>(recipes).objective)...),
        stages_{described(std::get<i>(recipes))...},
        unread_keys_(system::unread_keys<R, T, B>(config)) {
    need_distinct_names<T, B>(*this, R::name);
  }
  SystemOf(const SystemOf&) = delete;

  static bool trains(std::size_t k, std::string_view name) {
    if constexpr (detail::has_trains<R>)
      return R::trains(k, name);
    else
      return true;
  }
  template <std::size_t... i>
  void objective_states(const typename Base::OnParameter& parameter,
                        const typename Base::OnBuffer& buffer, std::index_sequence<i...>) {
    (nn::for_each_state(std::get<sizeof...(i) - 1 - i>(parts_).states(), parameter, buffer), ...);
  }
  /// f(the part of stage k).
  template <class Self, class F>
  static void at_of(Self& self, std::size_t k, F&& f) {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      ((i == k ? f(std::get<i>(self.parts_)) : void()), ...);
    }
    (std::index_sequence_for<O...>());
  }
  template <class F>
  void at(std::size_t k, F&& f) {
    at_of(*this, k, f);
  }
  void need_stage(std::size_t k) const {
    if (k >= stages_.size())
      fail("system", R::name,
           "stage " + std::to_string(k) + ": expected 0 to " + std::to_string(stages_.size() - 1) +
               ", as stages() lists them");
  }
  template <Value V>
  V total(std::size_t k, const Batch& batch, const nn::Mode& mode, Losses& losses) const {
    need_stage(k);
    V y;
    at_of(*this, k, [&](const auto& part) {
      if constexpr (distils)
        if (part.objective().template reads<representation::TeacherLogits>() && teacher_) {
          Batch taught = batch;
          taught.teacher_logits = (*teacher_)(batch.text);
          y = part.template total<V>(taught, mode, losses);
          return;
        }
      y = part.template total<V>(batch, mode, losses);
    });
    return y;
  }

  struct NoTeacher {};
  template <class M>
  static auto teacher_type(M& m) {
    constexpr bool teaches = requires { m.snapshot(); };
    static_assert(teaches || !distils,
                  "hybridmed: a model whose objectives read TeacherLogits has snapshot(), which "
                  "makes a model::Teacher<T, B>; see docs/policies/system.md");
    if constexpr (distils && teaches)
      return m.snapshot();
    else
      return NoTeacher();
  }
  using TeacherModel = decltype(teacher_type(std::declval<Model&>()));
  Model model_;
  std::tuple<Part<O>...> parts_;
  std::vector<Stage> stages_;
  std::vector<std::string> unread_keys_;
  std::conditional_t<distils, std::optional<TeacherModel>, NoTeacher> teacher_;
};

}  // namespace hybridmed::system
