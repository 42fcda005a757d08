#pragma once
// Differentiable kernels of the objectives. Every loss but sigmoid_cross_entropy, which leaves its
// terms apart, is one element; an empty index set gives 0 and no gradient.
#include <cmath>

#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/core/host.hpp"

namespace hybridmed {

namespace detail {
inline void need_smoothing(std::string_view operation, double smoothing) {
  if (!(smoothing >= 0 && smoothing <= 1))
    fail("autograd", operation,
         "expected a label smoothing from 0 to 1, got " + std::to_string(smoothing));
}
inline void need_temperature(std::string_view operation, double tau) {
  if (!(tau > 0) || !std::isfinite(tau))
    fail("autograd", operation, "expected a temperature above 0, got " + std::to_string(tau));
}
}  // namespace detail

/// 0, the loss of an empty set: it sends no gradient.
template <Value V>
V no_loss() {
  return V(tensor_of<V>::zeros(Shape{}));
}

/// Mean cross-entropy over rows. logits (rows, classes), target (rows) -> ().
template <Value V>
V cross_entropy(const V& logits, const IndexTensor<backend_of<V>>& target, double smoothing) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("cross_entropy", logits);
  const Index rows = value(logits).rows(), classes = value(logits).cols();
  detail::need_smoothing("cross_entropy", smoothing);
  if (target.size() != rows)
    fail("autograd", "cross_entropy",
         "expected " + std::to_string(rows) + " targets, got " + std::to_string(target.size()));
  if (rows > 0)
    detail::need_indices<B>("cross_entropy", "target", target, classes, false,
                            "leave rows without a target out: no class number means 'ignore'");
  tensor_of<V> loss{Shape{}}, lse({rows}), top;
  if constexpr (is_recorded<V> && BackendRowTops<B, T>)
    if (recording(logits)) top = tensor_of<V>({rows});
  if constexpr (BackendRowTops<B, T>)
    B::cross_entropy(rows, classes, value(logits).data(), target.data(), smoothing, loss.data(),
                     lse.data(), top.defined() ? top.data() : nullptr);
  else
    B::cross_entropy(rows, classes, value(logits).data(), target.data(), smoothing, loss.data(),
                     lse.data());
  if constexpr (is_recorded<V>)
    if (recording(logits) && rows > 0)
      return recorded(
          std::move(loss), [logits, target, lse, top, smoothing, rows, classes](tensor_of<V> dy) {
            auto [dz, holds] = logits.slot->target(logits.shape());
            const auto run = [&, &dz = dz, holds = holds](const auto*... tops) {
              B::template cross_entropy_backward<T>(rows, classes, logits.tensor.data(),
                                                    target.data(), smoothing, lse.data(), dy.data(),
                                                    holds, dz.data(), tops...);
            };
            if constexpr (BackendRowTops<B, T>)
              run(top.data());
            else
              run();
          });
  return loss;
}

/// The cross-entropy of sigmoid(logit) with the target, a constant from 0 to 1, element by element:
/// log(1 + e^x) - z x, which neither overflows nor cancels. Values are not checked: what is not
/// finite comes out. Equal shapes -> the same shape.
template <Value V>
V sigmoid_cross_entropy(const V& logits, const tensor_of<V>& target) {
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("sigmoid_cross_entropy", logits, target);
  detail::same_shape("sigmoid_cross_entropy", value(logits).shape(), target.shape());
  tensor_of<V> y(target.shape());
  B::sigmoid_cross_entropy(y.size(), value(logits).data(), target.data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(logits))
      return recorded(std::move(y), [logits, target](tensor_of<V> dy) {
        tensor_of<V> dx(dy.shape());
        B::sigmoid_cross_entropy_backward(dx.size(), logits.tensor.data(), target.data(), dy.data(),
                                          dx.data());
        logits.slot->add(std::move(dx));
      });
  return y;
}

/// tau^2 KL(teacher || student), mean over rows (Hinton et al., 2015). The teacher is a constant.
/// (rows, classes) -> ().
template <Value V>
V distillation(const V& student, const tensor_of<V>& teacher, double tau) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("distillation", student, teacher);
  detail::need_temperature("distillation", tau);
  const Index rows = value(student).rows(), classes = value(student).cols();
  detail::same_shape("distillation", value(student).shape(), teacher.shape());
  tensor_of<V> loss{Shape{}}, lse_s({rows}), lse_t({rows}), tops;
  if constexpr (BackendRowTops<B, T>) {
    if constexpr (is_recorded<V>)
      if (recording(student)) tops = tensor_of<V>({2, rows});
    T* const top = tops.defined() ? tops.data() : nullptr;
    B::distillation(rows, classes, value(student).data(), teacher.data(), tau, loss.data(),
                    lse_s.data(), lse_t.data(), top, top ? top + rows : nullptr);
  } else {
    B::distillation(rows, classes, value(student).data(), teacher.data(), tau, loss.data(),
                    lse_s.data(), lse_t.data());
  }
  if constexpr (is_recorded<V>)
    if (recording(student) && rows > 0)
      return recorded(std::move(loss),
                      [student, teacher, lse_s, lse_t, tops, tau, rows, classes](tensor_of<V> dy) {
                        auto [dz, holds] = student.slot->target(student.shape());
                        const auto run = [&, &dz = dz, holds = holds](const auto*... top) {
                          B::template distillation_backward<T>(
                              rows, classes, student.tensor.data(), teacher.data(), tau,
                              lse_s.data(), lse_t.data(), dy.data(), holds, dz.data(), top...);
                        };
                        if constexpr (BackendRowTops<B, T>)
                          run(tops.data(), tops.data() + rows);
                        else
                          run();
                      });
  return loss;
}

/// -sum_j target_ij log softmax_j(logits_i / temperature), mean over rows (Hinton et al., 2015).
/// The target is a constant, for example of sinkhorn; its rows need not sum to 1. (rows, classes)
/// -> ().
template <Value V>
V soft_cross_entropy(const V& logits, const tensor_of<V>& target, double temperature) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("soft_cross_entropy", logits, target);
  detail::need_temperature("soft_cross_entropy", temperature);
  detail::same_shape("soft_cross_entropy", value(logits).shape(), target.shape());
  const Index rows = value(logits).rows(), classes = value(logits).cols();
  tensor_of<V> loss{Shape{}}, lse({rows});
  B::soft_cross_entropy(rows, classes, value(logits).data(), target.data(), temperature,
                        loss.data(), lse.data());
  if constexpr (is_recorded<V>)
    if (recording(logits) && rows > 0)
      return recorded(
          std::move(loss), [logits, target, lse, temperature, rows, classes](tensor_of<V> dy) {
            auto [dz, holds] = logits.slot->target(logits.shape());
            B::template soft_cross_entropy_backward<T>(rows, classes, logits.tensor.data(),
                                                       target.data(), temperature, lse.data(),
                                                       dy.data(), holds, dz.data());
          });
  return loss;
}

/// Soft assignment of rows to prototypes, balanced over the prototypes (Sinkhorn-Knopp as in SwAV,
/// Caron et al., NeurIPS 2020, and in MGCA). scores (rows, prototypes) -> the same shape, rows sum
/// to 1. A constant: no gradient passes through it.
template <Value V>
tensor_of<V> sinkhorn(const V& scores, double eps, Index iterations) {
  using B = backend_of<V>;
  detail::need_defined("sinkhorn", scores);
  if (!(eps > 0) || !std::isfinite(eps))
    fail("autograd", "sinkhorn", "expected an eps above 0, got " + std::to_string(eps));
  if (iterations < 0)
    fail("autograd", "sinkhorn",
         "expected a number of iterations from 0, got " + std::to_string(iterations));
  tensor_of<V> q(value(scores).shape());
  B::sinkhorn(q.rows(), q.cols(), value(scores).data(), eps, iterations, q.data());
  return q;
}

/// row_weight CE over rows + column_weight CE over columns of a square score matrix, positives on
/// the diagonal or, with keys (n), wherever the keys are equal. (n, n) -> ().
template <Value V>
V symmetric_cross_entropy(const V& scores, const IndexTensor<backend_of<V>>& keys, double smoothing,
                          double row_weight, double column_weight) {
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("symmetric_cross_entropy", scores);
  detail::need_smoothing("symmetric_cross_entropy", smoothing);
  const Index n = value(scores).rows();
  if (value(scores).cols() != n)
    fail("autograd", "symmetric_cross_entropy",
         "expected a square matrix, got " + value(scores).shape().str());
  if (keys.defined() && keys.size() != n && keys.size() != 0)
    fail("autograd", "symmetric_cross_entropy",
         "expected " + std::to_string(n) + " keys, got " + std::to_string(keys.size()));
  tensor_of<V> loss{Shape{}}, ds({n, n});
  B::symmetric_cross_entropy(n, value(scores).data(), keys.size() ? keys.data() : nullptr,
                             smoothing, row_weight, column_weight, loss.data(), ds.data());
  if constexpr (is_recorded<V>)
    if (recording(scores) && n > 0)
      return recorded(std::move(loss), [s = scores.slot, ds](tensor_of<V> dy) {
        tensor_of<V> g(ds.shape());
        B::scale_by(g.size(), dy.data(), ds.data(), g.data());
        s->add(std::move(g));
      });
  return loss;
}

/// Hyper-parameters of the attention-pooled local score (method 4.2a).
struct LocalScore {
  double gamma1 = 4, gamma2 = 5;
  LocalAggregation aggregation = LocalAggregation::mean;
  bool operator==(const LocalScore&) const = default;
};

/// Local alignment score of every image with every text. p (images * regions, d), w (words, d),
/// offsets (texts + 1) in host memory, no empty text -> (images, texts). The B x B x T x N
/// attention is never stored; the backward pass rebuilds it. `half_products`: p and w come from a
/// model in bf16, and a backend may round factors of products to it.
template <Value V>
V local_scores(const V& p, Index images, const V& w, const Tensor<std::int32_t, Host>& offsets,
               const LocalScore& h, bool half_products = false) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("local_scores", p, w);
  if (!offsets.defined())
    fail("autograd", "local_scores", "the word offsets are an undefined tensor",
         "they hold one more number than there are texts: 0, ends of the texts");
  const Index texts = offsets.size() - 1;
  if (images < 0 || texts < 0 || offsets.data()[0] != 0 ||
      (images > 0 && value(p).rows() % images != 0) || offsets.data()[texts] != value(w).rows() ||
      (texts > 0 && images > 0 && value(p).cols() != value(w).cols()))
    fail("autograd", "local_scores",
         "expected p (" + std::to_string(images) + " * regions, d) and w (" +
             std::to_string(texts < 0 ? 0 : offsets.data()[texts]) + ", d), got " +
             value(p).shape().str() + " and " + value(w).shape().str());
  for (Index i = 0; i < texts; ++i)
    if (offsets.data()[i + 1] <= offsets.data()[i])
      fail("autograd", "local_scores", "text " + std::to_string(i) + " has no words",
           "leave such samples out");
  LocalArgs<T> a;
  a.images = images;
  a.regions = images ? value(p).rows() / images : 0;
  a.texts = offsets.size() - 1;
  a.dim = value(p).cols();
  a.p = value(p).data();
  a.w = value(w).data();
  a.offsets = offsets.data();
  a.gamma1 = static_cast<T>(h.gamma1);
  a.gamma2 = static_cast<T>(h.gamma2);
  a.aggregation = h.aggregation;
  a.half_products = half_products;
  tensor_of<V> z({images, a.texts});
  B::local_scores(a, z.data());
  if constexpr (is_recorded<V>)
    if (recording(p, w))
      return recorded(std::move(z), [p, w, offsets, a](tensor_of<V> dz) {
        B::local_scores_backward(a, dz.data(),
                                 p.slot ? p.slot->accumulator(p.shape()).data() : nullptr,
                                 w.slot ? w.slot->accumulator(w.shape()).data() : nullptr);
      });
  return z;
}

}  // namespace hybridmed
