#pragma once
// The token-wise contrast between an image and its own text, as a differentiable operation.
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"

namespace hybridmed {

namespace detail {
/// @throws Error unless the weights are undefined, or one number a row; where the host can read
/// them, each must be finite and above 0.
template <class T, class B>
void need_weights(std::string_view operation, std::string_view what, const Tensor<T, B>& weights,
                  Index rows) {
  if (!weights.defined()) return;
  if (weights.size() != rows)
    fail("autograd", operation,
         "expected " + std::to_string(rows) + " " + std::string(what) + " weights, got shape " +
             weights.shape().str());
  if constexpr (HostMemory<B>)
    for (Index i = 0; i < rows; ++i) {
      const auto x = static_cast<double>(weights.data()[i]);
      if (!(x > 0) || !std::isfinite(x))
        fail("autograd", operation,
             std::string(what) + " weight " + std::to_string(i) + ": expected above 0, got " +
                 std::to_string(x));
    }
}
}  // namespace detail

/// Token-wise contrast within samples, in both directions (MGCA, Wang et al., NeurIPS 2022; method
/// 4.2b): every word must find what it attends to in its image among what the other words attend
/// to, and every region the same in its text. regions (images * regions, d), words (words, d),
/// offsets (images + 1) in host memory, text i belongs to image i, no empty text -> (), L_words +
/// L_regions as the mean over images; 0 without a gradient for none. Rows are divided by their
/// lengths here. Weights say how much a row counts within its sample, (words) and (images *
/// regions), constants above 0; undefined: all alike. The backward pass rebuilds the attention.
template <Value V>
V token_alignment(const V& regions, Index images, const V& words,
                  const Tensor<std::int32_t, Host>& offsets, double temperature,
                  const tensor_of<V>& word_weights = {}, const tensor_of<V>& region_weights = {}) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("token_alignment", regions, words);
  if (!offsets.defined())
    fail("autograd", "token_alignment", "the word offsets are an undefined tensor",
         "they hold one more number than there are texts: 0, ends of the texts");
  detail::need_temperature("token_alignment", temperature);
  const Index texts = offsets.size() - 1;
  if (images < 0 || texts != images)
    fail("autograd", "token_alignment",
         "expected as many texts as images, got " + std::to_string(texts) + " and " +
             std::to_string(images));
  const std::int32_t* ends = offsets.data();
  if (ends[0] != 0 || ends[texts] != value(words).rows() ||
      (images == 0 ? value(regions).rows() != 0
                   : value(regions).rows() == 0 || value(regions).rows() % images != 0 ||
                         value(regions).cols() != value(words).cols()))
    fail("autograd", "token_alignment",
         "expected regions (" + std::to_string(images) + " * regions, d) and words (" +
             std::to_string(ends[texts]) + ", d), got " + value(regions).shape().str() + " and " +
             value(words).shape().str());
  for (Index i = 0; i < texts; ++i)
    if (ends[i + 1] <= ends[i])
      fail("autograd", "token_alignment", "text " + std::to_string(i) + " has no words",
           "leave such samples out");
  detail::need_weights("token_alignment", "word", word_weights, value(words).rows());
  detail::need_weights("token_alignment", "region", region_weights, value(regions).rows());
  if (images == 0) return tensor_of<V>::zeros(Shape{});
  const V p = normalize_rows(regions), w = normalize_rows(words);
  TokenArgs<T> a;
  a.samples = images;
  a.regions = value(p).rows() / images;
  a.dim = value(p).cols();
  a.p = value(p).data();
  a.w = value(w).data();
  a.offsets = offsets.data();
  a.temperature = temperature;
  a.word_weights = word_weights.data();
  a.region_weights = region_weights.data();
  tensor_of<V> loss{Shape{}};
  B::token_alignment(a, loss.data());
  if constexpr (is_recorded<V>)
    if (recording(p, w))
      return recorded(
          std::move(loss), [p, w, offsets, word_weights, region_weights, a](tensor_of<V> dy) {
            B::token_alignment_backward(a, dy.data(),
                                        p.slot ? p.slot->accumulator(p.shape()).data() : nullptr,
                                        w.slot ? w.slot->accumulator(w.shape()).data() : nullptr);
          });
  return loss;
}

}  // namespace hybridmed
