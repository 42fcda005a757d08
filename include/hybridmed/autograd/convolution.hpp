#pragma once
// Differentiable convolution and max-pooling on channels-last maps stored as rows: (batch * height
// * width, channels).
#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/backend/concept.hpp"

namespace hybridmed {

namespace detail {
inline void need_window(std::string_view operation, const ConvShape& s) {
  if (s.batch < 0 || s.height < 1 || s.width < 1 || s.kernel < 1 || s.stride < 1 || s.pad < 0 ||
      s.pad >= s.kernel || s.height + 2 * s.pad < s.kernel || s.width + 2 * s.pad < s.kernel)
    fail("autograd", operation,
         "a window of " + std::to_string(s.kernel) + " with stride " + std::to_string(s.stride) +
             " and padding " + std::to_string(s.pad) + " does not fit a map of " +
             std::to_string(s.height) + " x " + std::to_string(s.width));
}
}  // namespace detail

/// x (batch * height * width, in), w (out, in, kernel, kernel) -> (batch * out_height * out_width,
/// out). No bias.
template <Value V>
V conv2d(const V& x, const Weight<V>& w, const ConvShape& s) {
  static_assert(BackendConvolution<backend_of<V>, scalar_of<V>>,
                "hybridmed: this backend has no convolution or pooling for this scalar; see "
                "docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("conv2d", x, w);
  detail::need_window("conv2d", s);
  const Index taps = s.kernel * s.kernel;
  if (value(x).rows() != s.batch * s.height * s.width || value(x).cols() != s.in ||
      value(w).size() != s.out * s.in * taps)
    fail("autograd", "conv2d",
         "the map " + value(x).shape().str() + " or the weight " + value(w).shape().str() +
             " does not fit the convolution");
  tensor_of<V> last({s.out, taps, s.in});  // the weight with channels last
  B::transpose(s.out, s.in, taps, value(w).data(), last.data());
  tensor_of<V> y({s.batch * s.out_height() * s.out_width(), s.out});
  B::conv2d(s, value(x).data(), last.data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x, w))
      return recorded(std::move(y), [x, w, last, s, taps](tensor_of<V> dy) {
        if (w.slot) {
          using Gradient = Tensor<master_of<scalar_of<V>>, B>;
          Gradient dlast = Gradient::zeros(last.shape()), dw(w.shape());
          B::conv2d_backward_weight(s, x.tensor.data(), dy.data(), dlast.data());
          B::transpose(s.out, taps, s.in, dlast.data(), dw.data());
          w.slot->add(std::move(dw));
        }
        if (x.slot) {
          tensor_of<V> dx(x.shape());
          B::conv2d_backward_input(s, dy.data(), last.data(), dx.data());
          x.slot->add(std::move(dx));
        }
      });
  return y;
}

/// Maximum over windows; s.in == s.out. (batch * height * width, channels) -> (batch * out_height *
/// out_width, channels).
template <Value V>
V max_pool(const V& x, const ConvShape& s) {
  static_assert(BackendConvolution<backend_of<V>, scalar_of<V>>,
                "hybridmed: this backend has no convolution or pooling for this scalar; see "
                "docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("max_pool", x);
  detail::need_window("max_pool", s);
  if (value(x).rows() != s.batch * s.height * s.width || value(x).cols() != s.in || s.out != s.in)
    fail("autograd", "max_pool", "the map " + value(x).shape().str() + " does not fit the window");
  const Shape out{s.batch * s.out_height() * s.out_width(), s.in};
  tensor_of<V> y(out);
  IndexTensor<B> where(out);
  B::max_pool(s, value(x).data(), y.data(), where.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [slot = x.slot, shape = x.shape(), s, where](tensor_of<V> dy) {
        tensor_of<V> dx = tensor_of<V>::zeros(shape);
        B::max_pool_backward(s, dy.data(), where.data(), dx.data());
        slot->add(std::move(dx));
      });
  return y;
}

}  // namespace hybridmed
