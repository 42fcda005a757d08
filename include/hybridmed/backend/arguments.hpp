#pragma once
// Argument packs of the larger kernels: raw pointers and extents only, so that host and device code
// share them.
#include <cmath>
#include <cstdint>

#include "hybridmed/core/host_device.hpp"
#include "hybridmed/core/philox.hpp"
#include "hybridmed/core/scalars.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed {

enum class Activation { identity, relu, gelu, gelu_tanh };

/// How the word scores of one text become one number (method 4.2a): log-mean-exp, log-sum-exp, or
/// the maximum.
enum class LocalAggregation { mean, sum, max };

/// A linear layer and what may be fused to it: y = act(x weight^T + bias) + residual, row-major. Y:
/// T, or the scalar that sums are held in; then there is no activation.
template <class T, class Y = T>
struct LinearArgs {
  Index rows = 0, in = 0, out = 0;
  const T* x = nullptr;                     // (rows, in)
  const T* weight = nullptr;                // (out, in)
  const accumulator_of<T>* bias = nullptr;  // (out), or null
  Activation activation = Activation::identity;
  Y* pre = nullptr;  // (rows, out): what the activation is applied to; null: nobody wants it
  Y* y = nullptr;    // (rows, out)
  const Y* residual = nullptr;  // (rows, out), or null; not y itself
};

/// Gradients of a linear layer y = x weight^T + bias, whose x may be act(pre). Those of weight and
/// bias are added up in the scalar of sums: to what is there, or from nothing.
template <class T, class Y = T>
struct LinearGradients {
  using A = accumulator_of<T>;
  /// Where a gradient goes; null: nobody wants it.
  struct Sum {
    A* to = nullptr;
    bool holds = false;  // a sum that is added to
  };
  Index rows = 0, in = 0, out = 0;
  const Y* dy = nullptr;      // (rows, out)
  const T* weight = nullptr;  // (out, in)
  const T* x = nullptr;       // (rows, in); not read where `pre` is given
  Activation activation = Activation::identity;
  T* pre = nullptr;  // (rows, in): x = activation(pre). What it holds afterwards is not said, so
                     // that x may be rebuilt in its place
  Sum dweight{};     // (out, in)
  Sum dbias{};       // (out)
  T* dx = nullptr;   // (rows, in), overwritten: the gradient of x, or of pre where that is given
  Sum dx_sum{};      // (in): the rows of dx, added up: the gradient of a bias within pre
};

/// Multi-head attention over ragged segments: softmax(scale q k^T + bias + mask) v, per segment and
/// head. A query whose segment has no key, or whose keys are all masked out (bias and mask add up
/// to -inf for each), yields zeros; a score that is NaN or +inf comes out as NaN. Head h uses
/// columns [h * head_dim, (h + 1) * head_dim).
template <class T>
struct AttentionArgs {
  using A = accumulator_of<T>;
  Index segments = 0, heads = 0, head_dim = 0;
  const std::int32_t* q_ranges =
      nullptr;  // (segments, 2): first row and end row of each segment's queries
  const std::int32_t* k_ranges = nullptr;  // (segments, 2): the same for keys and values
  // What a device cannot read off the ranges without waiting for them; -1: not said, with which
  // backends in host memory do.
  Index query_rows = -1;       // rows of q, out and lse: all query ranges end there or before
  Index longest_queries = -1,  // rows of the longest segment. They decide how work is cut, not what
      longest_keys = -1;       // comes out, so they may be too large or too small.
  bool causal = false;         // query i of a segment sees keys 0..i of that segment
  A scale = A(1);
  const T* q = nullptr;  // rows of ldq
  const T* k = nullptr;  // rows of ldk
  const T* v = nullptr;  // rows of ldv
  Index ldq = 0, ldk = 0, ldv = 0;
  const A* bias = nullptr;  // (heads, area, area), added to the scores of every segment; or null
  const A* mask = nullptr;  // (windows, area, area), segment s uses slice s % windows; or null
  Index windows = 1, area = 0;
  T* out = nullptr;  // (query rows, heads * head_dim), rows of ldo
  Index ldo = 0;
  A* lse = nullptr;  // (query rows, heads): log-sum-exp of each row's scores; -inf marks a row
                     // without keys

  /// May query i of the segment's queries attend to key j, as far as bias and mask say?
  HYBRIDMED_HOST_DEVICE bool admits(Index segment, Index head, Index i, Index j) const {
    A x = A(0);
    if (bias) x += bias[(head * area + i) * area + j];
    if (mask) x += mask[(segment % windows * area + i) * area + j];
    return !(x < A(0) && x + x == x);  // everything but -inf
  }
};

/// Gradients of attention. dq, dk, dv have the strides of q, k, v and are overwritten on the rows
/// of the segments; dbias is accumulated.
template <class T>
struct AttentionGradients {
  const T* dout = nullptr;  // (query rows, heads * head_dim), rows of ldo
  T *dq = nullptr, *dk = nullptr, *dv = nullptr;
  accumulator_of<T>* dbias = nullptr;  // (heads, area, area) or null
};

/// Two-dimensional convolution, channels last: x (batch, height, width, in) -> y (batch,
/// out_height, out_width, out), weight (out, kernel, kernel, in).
struct ConvShape {
  Index batch = 0, height = 0, width = 0, in = 0, out = 0, kernel = 1, stride = 1, pad = 0;
  Index out_height() const { return (height + 2 * pad - kernel) / stride + 1; }
  Index out_width() const { return (width + 2 * pad - kernel) / stride + 1; }
};

/// Local alignment scores between every image and every text (method 4.2a).
template <class T>
struct LocalArgs {
  Index images = 0, regions = 0, texts = 0, dim = 0;
  const T* p = nullptr;  // (images * regions, dim)
  const T* w = nullptr;  // (words of all texts, dim)
  const std::int32_t* offsets =
      nullptr;  // host, (texts + 1): word rows of each text; no text is empty
  T gamma1 = T(4), gamma2 = T(5);
  LocalAggregation aggregation = LocalAggregation::mean;
  /// May a backend round the factors of products to bf16: p, w, and shares of attention?
  bool half_products = false;
};

/// One direction of the token-wise contrast in one sample: n anchors that attend to m others.
template <class T>
struct TokenSide {
  Index n = 0, m = 0;
  const T* anchors = nullptr;  // (n, dim)
  const T* others = nullptr;   // (m, dim)
  const T* weights = nullptr;  // (n), or null: all alike
};

/// Token-wise contrast between the regions of an image and the words of its text (MGCA, Wang et
/// al., NeurIPS 2022; method 4.2b). Text s belongs to image s.
template <class T>
struct TokenArgs {
  Index samples = 0, regions = 0, dim = 0;
  const T* p = nullptr;  // (samples * regions, dim), rows of length 1
  const T* w = nullptr;  // (words of all texts, dim), rows of length 1
  const std::int32_t* offsets =
      nullptr;  // host, (samples + 1): word rows of each text; no text is empty
  double temperature = 0.1;
  const T* region_weights = nullptr;  // (samples * regions), above 0; or null: all alike
  const T* word_weights = nullptr;    // (words of all texts), above 0; or null: all alike

  Index words(Index s) const { return offsets[s + 1] - offsets[s]; }
  /// The words of sample s attend to its regions.
  TokenSide<T> from_words(Index s) const {
    return {words(s), regions, w + offsets[s] * dim, p + s * regions * dim,
            word_weights ? word_weights + offsets[s] : nullptr};
  }
  /// The regions of sample s attend to its words.
  TokenSide<T> from_regions(Index s) const {
    return {regions, words(s), p + s * regions * dim, w + offsets[s] * dim,
            region_weights ? region_weights + s * regions : nullptr};
  }
};

/// The numbers of one training step that change from step to step. They lie in the backend's
/// memory, where kernels read and add to them: a device need not wait for the host between backward
/// pass and update, and a step that was recorded once can run again with other numbers.
struct StepState {
  double learning_rate = 0;
  double correction1 = 1, correction2 = 1;  // 1 - beta^t
  double squared_norm = 0;        // of all gradients; where the norm is not finite, the update
                                  // changes nothing
  double squared_norm_small = 0;  // the same of the gradients times `shrink`, read where the other
                                  // overflows; below 0: not kept
  Philox random{};                // of dropout in this step

  static constexpr double shrink = 0x1p-512;

  /// The global gradient norm.
  HYBRIDMED_HOST_DEVICE double norm() const {
    if (squared_norm_small < 0 || squared_norm <= 1e300) return std::sqrt(squared_norm);
    return std::sqrt(squared_norm_small) / shrink;
  }
};

/// One AdamW update (Loshchilov & Hutter, ICLR 2019), bias corrections and clipping folded in.
struct AdamWArgs {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0;
  double clip = 0;                  // maximum global gradient norm; 0: no clipping
  const StepState* step = nullptr;  // backend memory

  /// The factor of every gradient, given their global norm. Kernels multiply in double: squared in
  /// float, the factor of a norm of 1e19 is 0.
  static HYBRIDMED_HOST_DEVICE double gradient_scale(double clip, double norm) {
    const double limit = clip / (norm + 1e-6);
    return clip > 0 && limit < 1 ? limit : 1.0;
  }
};

/// One of the tensors that a backend updates in one pass over all of them (BackendAdamWList).
/// Backend memory; M: the master scalar.
template <class M>
struct AdamWTensor {
  Index n = 0;
  const M* gradient = nullptr;                     // (n); null: a gradient of zeros
  M *m = nullptr, *v = nullptr, *value = nullptr;  // (n)
  bfloat16* rounded =
      nullptr;  // (n): the new value as bf16 products read it; null: nobody wants it
  double decay = 0;

  bool operator==(const AdamWTensor&) const = default;
};

}  // namespace hybridmed
