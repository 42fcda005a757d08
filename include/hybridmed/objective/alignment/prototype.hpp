#pragma once
// Alignment across samples by prototypes (method 4.2b).
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Image and impression predict each other's assignment to learned prototypes, which Sinkhorn's
/// iterations balance over the batch (Wang et al., MGCA, NeurIPS 2022; Caron et al., SwAV, NeurIPS
/// 2020). The prototypes keep length 1, and wait an epoch before they are trained.
struct PrototypeAlignment {
  Index prototypes = 500;
  Index width = 512;  ///< d_e
  double temperature = 0.2, sinkhorn_eps = 0.05;
  Index sinkhorn_iterations = 3;
  Index waiting_epochs = 1;
  bool operator==(const PrototypeAlignment&) const = default;

  static constexpr std::string_view name = "prototype";
  static constexpr Needs<representation::ImageGlobal, representation::ImpressionGlobal> needs{};
  static constexpr bool compares_samples = true;

  template <class T, class B>
  struct State {
    Parameter<T, B> prototypes;  // (K, d_e)
    bool waiting = false;

    explicit State(const PrototypeAlignment& o)
        : prototypes({o.prototypes, o.width}, init::unit_rows()) {}
    template <class F>
    void visit(F&& f) {
      f("prototypes", prototypes);
    }
  };
  template <class S>
  void constrain(S& state) const {
    const auto& rows = state.prototypes.value;
    const auto normal = normalize_rows(rows);
    // Into the memory that it has: a step that was recorded finds it there.
    backend_of<std::remove_cvref_t<decltype(rows)>>::copy(rows.size(), normal.data(), rows.data());
  }
  template <class S>
  void begin_epoch(S& state, Index epoch) const {
    state.waiting = epoch < waiting_epochs;
  }

  template <Value V, class N>
  V operator()(const Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    const auto& image = get<representation::ImageGlobal>(r).projected;
    const auto& text = get<representation::ImpressionGlobal>(r).projected;
    if (value(image).rows() == 0) return no_loss<V>();
    const V rows = state.waiting ? V(state.prototypes.value) : use<V>(state.prototypes);
    const V from_image = linear(normalize_rows(image), rows),
            from_text = linear(normalize_rows(text), rows);
    const auto assigned = [&](const V& scores) {
      return sinkhorn(value(scores), sinkhorn_eps, sinkhorn_iterations);
    };
    return scale(add(soft_cross_entropy(from_text, assigned(from_image), temperature),
                     soft_cross_entropy(from_image, assigned(from_text), temperature)),
                 0.5);
  }
};

}  // namespace hybridmed::objective
