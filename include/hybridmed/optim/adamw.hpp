#pragma once
// AdamW with decoupled decay (Loshchilov & Hutter, ICLR 2019), global-norm clipping folded into the
// update.
#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "hybridmed/backend/concept.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::optim {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  double clip = 1.0;  ///< maximum global gradient norm; 0: no clipping
};

/// T: the master scalar of the model's precision.
template <class T, class B>
class AdamW {
  static_assert(std::is_same_v<T, master_of<T>>,
                "hybridmed: an optimizer works on the master scalar of a precision: of a model in "
                "bfloat16 on float");

 public:
  struct Entry {
    std::string name;
    Parameter<T, B>* parameter;
    Tensor<T, B> m, v;
  };

  /// Takes every trainable parameter of the model; their moments start at zero. The model must
  /// outlive the optimizer, where it is.
  /// @throws Error for an option out of range, and where visit() calls one parameter by two names.
  template <class M>
  AdamW(M& model, AdamWOptions options) : options_(options) {
    const auto need = [](bool ok, const char* what, double got) {
      if (!ok) fail("optim", "AdamW", std::string(what) + ", got " + std::to_string(got));
    };
    need(options.beta1 >= 0 && options.beta1 < 1, "expected beta1 from 0 to below 1",
         options.beta1);
    need(options.beta2 >= 0 && options.beta2 < 1, "expected beta2 from 0 to below 1",
         options.beta2);
    need(options.eps > 0 && std::isfinite(options.eps), "expected eps above 0", options.eps);
    need(options.weight_decay >= 0 && std::isfinite(options.weight_decay),
         "expected a weight_decay of at least 0", options.weight_decay);
    need(options.clip >= 0 && std::isfinite(options.clip),
         "expected a clip of at least 0 (0: none)", options.clip);
    nn::for_each_parameter(
        model, nn::ParameterVisitor<T, B>([&](const std::string& name, Parameter<T, B>& p) {
          if (!held_.insert(&p.slot).second)
            fail("optim", "AdamW",
                 "the parameter '" + name + "' stands in the model under another name too",
                 "an update would move it twice: visit() names each parameter once, however many "
                 "layers use it");
          if (p.trainable)
            entries_.push_back({name, &p, Tensor<T, B>::zeros(p.value.shape()),
                                Tensor<T, B>::zeros(p.value.shape())});
          else
            frozen_.emplace_back(name, &p);
        }));
  }

  /// Brings the numbers of the next step to the backend, in one copy of a few bytes: with the
  /// batch, before what is to run without the host. `random`: of dropout, where the step reads it
  /// there. Where the backend updates all parameters at once, their copies in bf16 are those of
  /// their values from here on, and each update writes both (RoundedCopy).
  void begin_step(double learning_rate, Philox random = Philox()) {
    if (!(learning_rate >= 0) || !std::isfinite(learning_rate))
      fail("optim", "AdamW",
           "expected a learning rate of at least 0, got " + std::to_string(learning_rate));
    const auto t = static_cast<double>(steps_ + 1);
    const StepState now{learning_rate,
                        1 - std::pow(options_.beta1, t),
                        1 - std::pow(options_.beta2, t),
                        0,
                        squares_overflow ? 0.0 : -1.0,
                        random};
    state_ = Tensor<StepState, B>::from_host({&now, 1}, {1});
    begun_ = true;
    make_copies();
  }
  /// Issues one update and waits for nothing: `norm()` tells the rest. A trained parameter without
  /// a gradient counts as gradient 0; one that was frozen after the optimizer was made stays as it
  /// is, moments too. Gradients are released. Where the global gradient norm, or `loss` (one
  /// element, or undefined), is not finite, nothing is updated.
  /// @throws Error where the step was not begun, or where a parameter has a gradient that was
  /// frozen when the optimizer was made.
  void update(const Tensor<T, B>& loss = {}) {
    check();
    const AdamWArgs a{options_.beta1, options_.beta2, options_.eps, 0,
                      options_.clip,  state_.data()};
    if constexpr (listed)
      update_as_list(loss, a);
    else
      update_one_by_one(loss, a);
    for (Entry& e : entries_) e.parameter->slot.grad = {};
    begun_ = false;
    updated_ = true;
    ++steps_;
  }
  /// The numbers of the step that was begun last, in the backend. An update adds to them.
  const Tensor<StepState, B>& state() const { return state_; }
  /// What was issued since begin_step was recorded and has not run: the step is begun as before.
  void not_run() {
    --steps_;
    begun_ = true;
  }
  /// An update that was recorded ran again for the step that was begun, and left its numbers there.
  void replayed(Tensor<StepState, B> numbers) {
    check();
    state_ = std::move(numbers);
    begun_ = false;
    ++steps_;
  }
  /// Has it made no update yet?
  bool is_new() const { return !updated_; }
  /// @throws Error where what the tape has recorded uses a trained parameter that this optimizer
  /// does not hold: no update would move it, and its gradient would grow.
  void need_held(const Tape& tape) const {
    tape.each_leaf([&](const void* slot) {
      if (held_.count(slot) == 0)
        fail("optim", "AdamW", "a parameter that the loss depends on is not in this optimizer",
             "make the optimizer of what is trained (the Composed, or the system; not the model "
             "alone, nor a copy), and let visit() name every parameter; what is not to be trained "
             "has trainable = false");
    });
  }
  /// What an update measured; its numbers stay in the backend until they are read.
  struct Norm {
    Tensor<StepState, B> state;

    /// Waits for the update. The global gradient norm before clipping; not finite where nothing was
    /// updated.
    double read() const { return state.item().norm(); }
  };
  /// Of the last update.
  Norm norm() const { return {state_}; }
  /// The last update changed nothing: it does not count as a step.
  void take_back() { --steps_; }

  /// One update, waited for. Returns the global gradient norm before clipping; where that is not
  /// finite, nothing is updated.
  double step(double learning_rate) {
    begin_step(learning_rate);
    update();
    const double n = norm().read();
    if (!std::isfinite(n)) take_back();
    return n;
  }
  /// Drops gradients without using them.
  void discard() {
    for (Entry& e : entries_) e.parameter->slot.grad = {};
    for (const auto& [name, p] : frozen_) p->slot.grad = {};
  }

  std::vector<Entry>& entries() { return entries_; }
  std::int64_t steps() const { return steps_; }
  /// Grows whenever a copy in bf16 has other memory than before: what was recorded until then
  /// neither reads nor writes it.
  std::uint64_t copies_moved() const { return copies_moved_; }
  void set_steps(std::int64_t n) { steps_ = n; }

 private:
  // The squares of doubles overflow; those of floats, summed in double, do not.
  static constexpr bool squares_overflow = std::is_same_v<T, double>;
  static constexpr bool listed = BackendAdamWList<B, T>;
  struct NoList {};
  template <class X>
  struct ListOf {
    using type = NoList;
  };
  template <class X>
  requires BackendAdamWList<X, T>
  struct ListOf<X> {
    using type = typename X::template AdamWList<T>;
  };

  void update_one_by_one(const Tensor<T, B>& loss, AdamWArgs a) {
    for (const Entry& e : entries_)
      if (const Tensor<T, B>& g = e.parameter->slot.grad; e.parameter->trainable && g.defined())
        add_to_norm(g);
    if (loss.defined()) forbid_unless_finite(loss);
    for (Entry& e : entries_) {
      if (!e.parameter->trainable) continue;
      a.decay = decay_of(e);
      B::adamw(e.m.size(), a, gradient_of(e), e.m.data(), e.v.data(), e.parameter->value.data());
    }
  }
  /// The same in a number of passes that does not depend on how many parameters there are.
  void update_as_list(const Tensor<T, B>& loss, const AdamWArgs& a) {
    tensors_.clear();
    kept_.clear();
    for (const Entry& e : entries_) {
      if (!e.parameter->trainable) continue;
      const Tensor<T, B>& value = e.parameter->value;
      const RoundedCopy<T, B>& copy = e.parameter->rounded;
      // One that is older than its value stays that where the norm is not finite.
      if (copy.is_of(value)) kept_.push_back(e.parameter);
      bfloat16* const to = copy.tensor().defined() ? copy.tensor().data() : nullptr;
      tensors_.push_back(
          {e.m.size(), gradient_of(e), e.m.data(), e.v.data(), value.data(), to, decay_of(e)});
    }
    list_.assign(tensors_);
    B::gradient_norm(list_, loss.defined() ? loss.data() : nullptr, state_.data());
    B::adamw(list_, a);
    for (Parameter<T, B>* p : kept_) p->rounded.written_with(p->value);
  }
  /// The copies of all parameters that products in bf16 read, of frozen ones too.
  void make_copies() {
    if constexpr (listed && BackendConversion<B, bfloat16> && std::is_same_v<T, float>) {
      const auto make = [&](Parameter<T, B>& p) { copies_moved_ += p.rounded.make(p.value); };
      for (Entry& e : entries_) make(*e.parameter);
      for (auto& [name, p] : frozen_) make(*p);
    }
  }
  double decay_of(const Entry& e) const { return e.parameter->decays ? options_.weight_decay : 0; }
  static const T* gradient_of(const Entry& e) {
    const Tensor<T, B>& g = e.parameter->slot.grad;
    return g.defined() ? g.data() : nullptr;
  }

  void check() const {
    if (!begun_)
      fail("optim", "AdamW", "an update without a step that it belongs to",
           "call begin_step(learning_rate) first, or step(learning_rate) for both");
    for (const Entry& e : entries_)
      if (const auto& g = e.parameter->slot.grad;
          e.parameter->value.size() != e.m.size() || (g.defined() && g.size() != e.m.size()))
        fail("optim", "AdamW",
             "the parameter '" + e.name + "' of shape " + e.m.shape().str() + " now has " +
                 e.parameter->value.shape().str() +
                 (g.defined() ? " and a gradient " + g.shape().str() : std::string()));
    for (const auto& [name, p] : frozen_)
      if (p->trainable && p->slot.grad.defined())
        fail("optim", "AdamW",
             "the parameter '" + name +
                 "' has a gradient, but was frozen when the optimizer was made",
             "choose what is trained first, then make the optimizer");
  }
  void add_to_norm(const Tensor<T, B>& g) {
    B::squared_norm(g.size(), g.data(), &state_.data()->squared_norm);
    if constexpr (squares_overflow) {
      Tensor<T, B> shrunk(g.shape());
      B::scale(g.size(), static_cast<T>(StepState::shrink), g.data(), shrunk.data());
      B::squared_norm(shrunk.size(), shrunk.data(), &state_.data()->squared_norm_small);
    }
  }
  /// 0 times a number that is not finite is NaN: it makes the norm NaN.
  void forbid_unless_finite(const Tensor<T, B>& loss) {
    Tensor<T, B> nothing(loss.shape());
    B::scale(loss.size(), T(0), loss.data(), nothing.data());
    add_to_norm(nothing);
  }

  AdamWOptions options_;
  Tensor<StepState, B> state_;  // of the step that was begun last
  bool begun_ = false, updated_ = false;
  std::vector<Entry> entries_;
  std::vector<std::pair<std::string, Parameter<T, B>*>> frozen_;  // parameters without moments
  std::set<const void*> held_;  // slots of the gradients of all of them
  std::int64_t steps_ = 0;
  [[no_unique_address]] typename ListOf<B>::type list_;
  std::vector<AdamWTensor<T>> tensors_;
  std::vector<Parameter<T, B>*> kept_;  // those whose copy the update at hand keeps up with
  std::uint64_t copies_moved_ = 0;
};

}  // namespace hybridmed::optim
