#pragma once
// The pairwise sigmoid loss between images and impressions (method 4.6).
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/objective/alignment/temperature.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

namespace detail {
/// (n, n), made where the backend computes. A matrix (n, n + 1) whose first column is 1 holds, in
/// its first n * n elements, ones n + 1 apart.
template <class T, class B>
Tensor<T, B> identity(Index n) {
  auto rows = Tensor<T, B>::zeros({n + 1, n});
  B::fill(n, T(1), rows.data());
  Tensor<T, B> columns({n, n + 1});
  B::transpose(1, n + 1, n, rows.data(), columns.data());
  return columns.view({n * (n + 1), 1}).row_slice(0, n * n).view({n, n});
}
}  // namespace detail

/// -(1/n) sum_ij log sigmoid(y_ij (exp(log_scale) u_i v_j + bias)), y = 1 for pairs that belong
/// together and -1 else, over the samples with an impression (Zhai et al., SigLIP, ICCV 2023). Both
/// numbers are learned, from ln 10 and -10, and are not clamped.
struct SigmoidContrast {
  double log_scale = 2.302585092994046, bias = -10;
  bool operator==(const SigmoidContrast&) const = default;

  static constexpr std::string_view name = "siglip";
  static constexpr Needs<representation::ImageGlobal, representation::ImpressionGlobal> needs{};
  static constexpr bool compares_samples = true;

  template <class T, class B>
  struct State {
    Parameter<T, B> log_scale, bias;

    explicit State(const SigmoidContrast& o)
        : log_scale(Shape{}, init::constant(o.log_scale)), bias(Shape{}, init::constant(o.bias)) {}
    template <class F>
    void visit(F&& f) {
      f("log_scale", log_scale);
      f("bias", bias);
    }
  };

  template <Value V, class N>
  V operator()(const Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    const V s =
        scaled_similarity(normalize_rows(get<representation::ImageGlobal>(r).projected),
                          normalize_rows(get<representation::ImpressionGlobal>(r).projected),
                          use<V>(state.log_scale));
    const Index n = value(s).rows();
    if (n == 0) return no_loss<V>();
    const V losses = sigmoid_cross_entropy(add(s, use<V>(state.bias)),
                                           detail::identity<scalar_of<V>, backend_of<V>>(n));
    return scale(sum(losses), 1 / static_cast<double>(n));
  }
};

}  // namespace hybridmed::objective
