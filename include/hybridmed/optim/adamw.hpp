#pragma once
// AdamW with decoupled decay (Loshchilov & Hutter, ICLR 2019), global-norm clipping folded into the update.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::optim {

/// False for what is never decayed: vectors and scalars, positions, level embeddings, relative position biases.
inline bool decays(std::string_view name, const Shape& shape) {
  return shape.rank() >= 2 && !name.ends_with(".pos") && !name.ends_with(".level_embed") && !name.ends_with(".rel_bias");
}

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  double clip = 1.0;  ///< maximum global gradient norm; 0: no clipping
};

template <class T, class B>
class AdamW {
 public:
  struct Entry {
    std::string name;
    Parameter<T, B>* parameter;
    bool decay;
    Tensor<T, B> m, v;
  };

  /// Takes every trainable parameter of the model; their moments start at zero.
  template <class M>
  AdamW(M& model, AdamWOptions options) : options_(options) {
    nn::for_each_parameter(model, nn::ParameterVisitor<T, B>([&](const std::string& name, Parameter<T, B>& p) {
      if (p.trainable)
        entries_.push_back({name, &p, decays(name, p.value.shape()), Tensor<T, B>::zeros(p.value.shape()), Tensor<T, B>::zeros(p.value.shape())});
    }));
  }

  /// One update. A trained parameter without a gradient counts as gradient 0. Gradients are released.
  /// Returns the global gradient norm before clipping; where that is not finite, nothing is updated.
  double step(double learning_rate) {
    const auto square = Tensor<double, B>::zeros({1});
    for (const Entry& e : entries_)
      if (e.parameter->slot.grad.defined()) B::squared_norm(e.parameter->slot.grad.size(), e.parameter->slot.grad.data(), square.data());
    ++steps_;
    AdamWArgs a{learning_rate, options_.beta1, options_.beta2, options_.eps, 0, 1 - std::pow(options_.beta1, static_cast<double>(steps_)),
                1 - std::pow(options_.beta2, static_cast<double>(steps_)), options_.clip, square.data()};
    for (Entry& e : entries_) {
      a.decay = e.decay ? options_.weight_decay : 0;
      auto& slot = e.parameter->slot;
      B::adamw(e.m.size(), a, slot.grad.defined() ? slot.grad.data() : nullptr, e.m.data(), e.v.data(), e.parameter->value.data());
      slot.grad = {};
    }
    const double norm = std::sqrt(square.item());  // the only wait of a device: everything is issued by now
    if (!std::isfinite(norm)) --steps_;
    return norm;
  }
  /// Drops gradients without using them.
  void discard() {
    for (Entry& e : entries_) e.parameter->slot.grad = {};
  }

  std::vector<Entry>& entries() { return entries_; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t n) { steps_ = n; }

 private:
  AdamWOptions options_;
  std::vector<Entry> entries_;
  std::int64_t steps_ = 0;
};

}  // namespace hybridmed::optim
