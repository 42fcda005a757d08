#pragma once
// What a backend must offer: a class with these static members, for every scalar T that models use
// it with. Kernels take raw pointers and extents of the backend's memory and may run later than the
// call, in the order of the calls; copy_to_host waits. backend/reference/ says exactly what each
// computes. The groups follow what layers need, so that a new backend can grow one group at a time;
// a kernel that only fuses others is optional, and found by its own concept.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/core/philox.hpp"

namespace hybridmed {

/// Memory of the backend, and copies between it and the host.
template <class B>
concept BackendMemory = requires(std::size_t bytes, void* p, const void* c) {
  { B::allocate(bytes) } -> std::same_as<void*>;
  B::deallocate(p);
  B::copy_from_host(c, p, bytes);
  B::copy_to_host(c, p, bytes);
};

/// Element-wise kernels, activations, random numbers, and the sums over whole arrays.
template <class B, class T>
concept BackendElementwise = requires(Index n, T a, const T* x, T* y, Activation act, Philox random,
                                      double p, double* sum) {
  B::fill(n, a, y);
  B::copy(n, x, y);
  B::add(n, x, x, y);
  B::multiply(n, x, x, y);
  B::scale(n, a, x, y);
  B::axpy(n, a, x, y);
  B::scale_by(n, x, x, y);
  B::dot(n, a, x, x, y);
  B::divide(n, x, x, y);
  B::sum(n, p, x, y);
  B::exponential(n, x, y);
  B::logarithm(n, x, y);
  B::clamp(n, a, a, y);
  B::reciprocal_sqrt(n, x, a, y);
  B::activation(act, n, x, y);
  B::activation_backward(act, n, x, x, y);
  B::sigmoid_cross_entropy(n, x, x, y);
  B::sigmoid_cross_entropy_backward(n, x, x, x, y);
  B::fill_normal(n, random, p, y);
  B::dropout_mask(n, random, p, y);
  B::squared_norm(n, x, sum);
};

/// Products of matrices, a vector added to every row, sums over rows: what linear layers need.
template <class B, class T>
concept BackendProducts = requires(Index n, bool b, T a, const T* x, T* y) {
  B::gemm(b, b, n, n, n, a, x, n, x, n, a, y, n);
  B::add_vector(n, n, x, x, y);
  B::column_sum(n, n, x, y);
};

/// LayerNorm.
template <class B, class T>
concept BackendLayerNorm = requires(Index n, double e, const T* x, T* y) {
  B::layer_norm(n, n, x, x, x, e, y, y, y);
  B::layer_norm_backward(n, n, x, x, x, x, x, y, y, y);
};

/// Softmax with cross-entropy.
template <class B, class T>
concept BackendCrossEntropy = requires(Index n, bool b, double e, const T* x, T* y,
                                       const std::int32_t* i) {
  B::cross_entropy(n, n, x, i, e, y, y);
  B::cross_entropy_backward(n, n, x, i, e, x, x, b, y);
};

/// The optimizer.
template <class B, class T>
concept BackendAdamW = requires(Index n, const AdamWArgs& a, const T* x, T* y) {
  B::adamw(n, a, x, y, y, y);
};

/// Enough to train layers without attention: feed-forward blocks and classifiers.
template <class B, class T>
concept BackendFeedForward =
    BackendMemory<B> && BackendElementwise<B, T> && BackendProducts<B, T> &&
    BackendLayerNorm<B, T> && BackendCrossEntropy<B, T> && BackendAdamW<B, T>;

/// Rows picked, mixed and normalised; layout changes.
template <class B, class T>
concept BackendRows = requires(Index n, const T* x, T* y, const std::int32_t* i,
                               std::int32_t* indices) {
  B::repeat_indices(n, i, n, n, indices);
  B::gather_rows(n, n, x, i, y);
  B::scatter_add_rows(n, n, x, i, y);
  B::mix_rows(n, n, n, n, i, i, x, x, y);
  B::normalize_rows(n, n, x, y, y);
  B::normalize_rows_backward(n, n, x, x, x, y);
  B::transpose(n, n, n, x, y);
  B::patchify(n, n, n, n, x, y);
};

/// Multi-head attention over ragged segments.
template <class B, class T>
concept BackendAttention = requires(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
  B::attention(a);
  B::attention_backward(a, g);
};

/// Convolution, BatchNorm, max-pooling.
template <class B, class T>
concept BackendConvolution = requires(Index n, bool b, const T* x, T* y, std::int32_t* o,
                                      const std::int32_t* i, const ConvShape& conv) {
  B::column_moments(n, n, x, y, y);
  B::batch_norm(n, n, x, x, x, x, x, y);
  B::batch_norm_backward(n, n, x, x, x, x, x, b, y, y, y);
  B::conv2d(conv, x, x, y);
  B::conv2d_backward_input(conv, x, x, y);
  B::conv2d_backward_weight(conv, x, x, y);
  B::max_pool(conv, x, y, o);
  B::max_pool_backward(n, x, i, y);
};

/// Kernels of the alignment and distillation objectives.
template <class B, class T>
concept BackendObjectives = requires(Index n, bool b, double e, const T* x, T* y,
                                     const std::int32_t* i, const LocalArgs<T>& local,
                                     const TokenArgs<T>& tokens) {
  B::distillation(n, n, x, x, e, y, y, y);
  B::distillation_backward(n, n, x, x, e, x, x, x, b, y);
  B::symmetric_cross_entropy(n, x, i, e, e, e, y, y);
  B::local_scores(local, y);
  B::local_scores_backward(local, x, y, y);
  B::token_alignment(tokens, y);
  B::token_alignment_backward(tokens, x, y, y);
  B::soft_cross_entropy(n, n, x, x, e, y, y);
  B::soft_cross_entropy_backward(n, n, x, x, e, x, x, b, y);
  B::sinkhorn(n, n, x, e, n, y);
};

/// Everything: any model and objective of this library runs on it.
template <class B, class T>
concept Backend = BackendFeedForward<B, T> && BackendRows<B, T> && BackendAttention<B, T> &&
    BackendConvolution<B, T> && BackendObjectives<B, T>;

/// Optional: y = x w^T + b in one pass; false where this shape is not served, with y untouched.
template <class B, class T>
concept BackendFusedBias = requires(Index n, const T* x, T* y) {
  { B::linear(n, n, n, x, x, x, y) } -> std::same_as<bool>;
};

/// Optional: pre = x w^T + b and y = act(pre) in one pass; false where this shape or activation is
/// not served.
template <class B, class T>
concept BackendFusedActivation = requires(Activation act, Index n, const T* x, T* y) {
  { B::linear_activation(act, n, n, n, x, x, x, y, y) } -> std::same_as<bool>;
};

/// Optional: sum = x + y and norm = LayerNorm(sum) in one pass, with the bits of add and
/// layer_norm; false where this shape is not served.
template <class B, class T>
concept BackendFusedAddNorm = requires(Index n, double e, const T* x, T* y) {
  { B::add_norm(n, n, x, x, x, x, e, y, y, y, y) } -> std::same_as<bool>;
};

/// Names the groups of kernels that a class lacks for layers without attention; instantiate it to
/// check.
template <class B, class T>
struct RequireFeedForwardBackend {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "hybridmed: models compute in float or double");
  static_assert(BackendMemory<B>,
                "hybridmed: the backend lacks allocate, deallocate, copy_from_host or "
                "copy_to_host; see hybridmed/backend/concept.hpp");
  static_assert(BackendElementwise<B, T>,
                "hybridmed: the backend lacks an element-wise kernel for this scalar; see "
                "BackendElementwise in hybridmed/backend/concept.hpp");
  static_assert(BackendProducts<B, T>,
                "hybridmed: the backend lacks gemm, add_vector or column_sum for this scalar; see "
                "BackendProducts in hybridmed/backend/concept.hpp");
  static_assert(BackendLayerNorm<B, T>,
                "hybridmed: the backend lacks layer_norm or layer_norm_backward for this scalar; "
                "see BackendLayerNorm in hybridmed/backend/concept.hpp");
  static_assert(BackendCrossEntropy<B, T>,
                "hybridmed: the backend lacks cross_entropy or cross_entropy_backward for this "
                "scalar; see BackendCrossEntropy in hybridmed/backend/concept.hpp");
  static_assert(BackendAdamW<B, T>,
                "hybridmed: the backend lacks adamw for this scalar; see BackendAdamW in "
                "hybridmed/backend/concept.hpp");
  static_assert(
      BackendFusedBias<B, T> ||
          !requires(Index n, const T* x, T* y) { B::linear(n, n, n, x, x, x, y); },
      "hybridmed: linear of a backend must return bool, false where it does not serve a shape; see "
      "BackendFusedBias in hybridmed/backend/concept.hpp");
  static_assert(
      BackendFusedActivation<B, T> ||
          !requires(Activation act, Index n, const T* x, T* y) {
            B::linear_activation(act, n, n, n, x, x, x, y, y);
          },
      "hybridmed: linear_activation of a backend must return bool, false where it does not serve a "
      "shape; see BackendFusedActivation in hybridmed/backend/concept.hpp");
  static_assert(
      BackendFusedAddNorm<B, T> ||
          !requires(Index n, double e, const T* x, T* y) {
            B::add_norm(n, n, x, x, x, x, e, y, y, y, y);
          },
      "hybridmed: add_norm of a backend must return bool, false where it does not serve a shape; "
      "see BackendFusedAddNorm in hybridmed/backend/concept.hpp");
};

/// The same for whole models.
template <class B, class T>
struct RequireBackend : RequireFeedForwardBackend<B, T> {
  static_assert(BackendRows<B, T>,
                "hybridmed: the backend lacks a kernel on rows for this scalar; see BackendRows in "
                "hybridmed/backend/concept.hpp");
  static_assert(BackendAttention<B, T>,
                "hybridmed: the backend lacks attention or attention_backward for this scalar; see "
                "BackendAttention in hybridmed/backend/concept.hpp");
  static_assert(BackendConvolution<B, T>,
                "hybridmed: the backend lacks a convolution, BatchNorm or pooling kernel for this "
                "scalar; see BackendConvolution in hybridmed/backend/concept.hpp");
  static_assert(BackendObjectives<B, T>,
                "hybridmed: the backend lacks a kernel of the objectives for this scalar; see "
                "BackendObjectives in hybridmed/backend/concept.hpp");
};

}  // namespace hybridmed
