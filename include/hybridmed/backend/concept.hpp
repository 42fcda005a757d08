#pragma once
// What a backend must offer: a class with these static members, for every scalar T that models use
// it with. Kernels take raw pointers and extents of the backend's memory and may run later than the
// call, in the order of the calls; copy_to_host waits. backend/reference/ says exactly what each
// computes. The groups follow what layers need, so that a new backend can grow one group at a time;
// a kernel that only fuses others is optional, and found by its own concept.
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
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

/// Element-wise kernels, activations, and the sums over whole arrays. A factor that the host gives
/// is of the scalar that sums are held in.
template <class B, class T, class A = accumulator_of<T>>
concept BackendElementwise = requires(Index n, T t, A a, const T* x, T* y, A* sum, Activation act,
                                      double p) {
  B::fill(n, t, y);
  B::copy(n, x, y);
  B::add(n, x, x, y);
  B::multiply(n, x, x, y);
  B::scale(n, a, x, y);
  B::axpy(n, a, x, sum);
  B::scale_by(n, x, x, y);
  B::dot(n, a, x, x, sum);
  B::divide(n, x, x, y);
  B::sum(n, p, x, y);
  B::sum(n, p, x, sum);
  B::exponential(n, x, y);
  B::logarithm(n, x, y);
  B::activation(act, n, x, y);
  B::activation_backward(act, n, x, x, y);
};

/// Copies from the scalar that a model computes in to the one that sums are held in and back, where
/// these differ.
template <class B, class T, class A = accumulator_of<T>>
concept BackendConversion = std::is_same_v<T, A> ||
    requires(Index n, const T* x, T* y, const A* wide, A* sum) {
  B::convert(n, x, sum);
  B::convert(n, wide, y);
};

/// What parameters need: their first numbers, the norm of their gradients, the update, limits; and
/// dropout's mask, from the same random numbers.
template <class B, class M>
concept BackendParameters = requires(Index n, M a, const M* x, M* y, const AdamWArgs& args,
                                     Philox random, double p, double* sum) {
  B::fill_normal(n, random, p, y);
  B::dropout_mask(n, random, p, y);
  B::squared_norm(n, x, sum);
  B::clamp(n, a, a, y);
  B::adamw(n, args, x, y, y, y);
};

/// Products of matrices, with a result in T or in the scalar of sums; a vector added to every row;
/// sums over rows: what linear layers need.
template <class B, class T, class A = accumulator_of<T>>
concept BackendProducts = requires(Index n, bool b, A a, const T* x, T* y, const A* v, A* sum) {
  B::gemm(b, b, n, n, n, a, x, n, x, n, a, y, n);
  B::gemm(b, b, n, n, n, a, x, n, x, n, a, sum, n);
  B::add_vector(n, n, x, v, y);
  B::column_sum(n, n, x, sum);
};

/// LayerNorm, of rows in T or in the scalar of sums.
template <class B, class T, class A = accumulator_of<T>>
concept BackendLayerNorm = requires(Index n, double e, const T* x, T* y, const A* v, A* sum) {
  B::layer_norm(n, n, x, v, v, e, y, sum, sum);
  B::layer_norm(n, n, v, v, v, e, y, sum, sum);
  B::layer_norm_backward(n, n, x, v, v, v, x, y, sum, sum);
  B::layer_norm_backward(n, n, v, v, v, v, x, sum, sum, sum);
};

/// Softmax and sigmoid with cross-entropy. Losses are computed in the master scalar.
template <class B, class M>
concept BackendCrossEntropy = requires(Index n, bool b, double e, const M* x, M* y,
                                       const std::int32_t* i) {
  B::cross_entropy(n, n, x, i, e, y, y);
  B::cross_entropy_backward(n, n, x, i, e, x, x, b, y);
  B::sigmoid_cross_entropy(n, x, x, y);
  B::sigmoid_cross_entropy_backward(n, x, x, x, y);
};

/// Enough to train layers without attention: feed-forward blocks and classifiers. What streams,
/// embeddings and losses are made of is in the scalar of sums, so groups are asked for in both.
template <class B, class T>
concept BackendFeedForward =
    BackendMemory<B> && BackendElementwise<B, T> && BackendElementwise<B, accumulator_of<T>> &&
    BackendConversion<B, T> && BackendProducts<B, T> && BackendProducts<B, accumulator_of<T>> &&
    BackendLayerNorm<B, T> && BackendLayerNorm<B, accumulator_of<T>> &&
    BackendCrossEntropy<B, master_of<T>> && BackendParameters<B, master_of<T>>;

/// Rows picked, mixed and normalised; layout changes.
template <class B, class T, class A = accumulator_of<T>>
concept BackendRows = requires(Index n, const T* x, T* y, const A* weight, A* norm, A* sum,
                               const std::int32_t* i, std::int32_t* indices) {
  B::repeat_indices(n, i, n, n, indices);
  B::gather_rows(n, n, x, i, y);
  B::scatter_add_rows(n, n, x, i, sum);
  B::mix_rows(n, n, n, n, i, i, weight, x, y);
  B::normalize_rows(n, n, x, y, norm);
  B::normalize_rows_backward(n, n, x, weight, x, y);
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
template <class B, class T, class A = accumulator_of<T>>
concept BackendConvolution = requires(Index n, bool b, A a, const T* x, T* y, const A* v, A* sum,
                                      std::int32_t* o, const std::int32_t* i,
                                      const ConvShape& conv) {
  B::column_moments(n, n, x, sum, sum);
  B::reciprocal_sqrt(n, v, a, sum);
  B::batch_norm(n, n, x, v, v, v, v, y);
  B::batch_norm_backward(n, n, x, v, v, v, x, b, y, sum, sum);
  B::conv2d(conv, x, x, y);
  B::conv2d_backward_input(conv, x, x, y);
  B::conv2d_backward_weight(conv, x, x, sum);
  B::max_pool(conv, x, y, o);
  B::max_pool_backward(conv, x, i, y);
};

/// Kernels of the alignment and distillation objectives, in the master scalar.
template <class B, class M>
concept BackendObjectives = requires(Index n, bool b, double e, const M* x, M* y,
                                     const std::int32_t* i, const LocalArgs<M>& local,
                                     const TokenArgs<M>& tokens) {
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

/// Text written token by token: rows put into a cache, the best class of each row.
template <class B, class T, class A = accumulator_of<T>>
concept BackendGeneration = requires(Index n, const T* x, T* y, const std::int32_t* i,
                                     std::int32_t* best, A* margin) {
  B::put_rows(n, n, x, n, i, y);
  B::best_class(n, n, x, best, margin);
};

/// Everything: any model and objective of this library runs on it.
template <class B, class T>
concept Backend =
    BackendFeedForward<B, T> && BackendRows<B, T> && BackendRows<B, accumulator_of<T>> &&
    BackendAttention<B, T> && BackendConvolution<B, T> && BackendObjectives<B, master_of<T>>;

/// Optional: a linear layer with its bias, its activation, a residual sum or several of them in one
/// pass; false, with nothing written, where these arguments are not served.
template <class B, class T, class Y = T>
concept BackendLinear = requires(const LinearArgs<T, Y>& a) {
  { B::linear(a) } -> std::same_as<bool>;
};

/// Optional: the gradients of a linear layer in fewer passes than products, activation and sums
/// take one by one; false, with nothing written, where these arguments are not served.
template <class B, class T, class Y = T>
concept BackendLinearGradients = requires(const LinearGradients<T, Y>& a) {
  { B::linear_backward(a) } -> std::same_as<bool>;
};

/// Optional: sum = x + y and norm = LayerNorm(sum) in one pass, with the bits of add and
/// layer_norm; false where this shape is not served.
template <class B, class T, class A = accumulator_of<T>>
concept BackendFusedAddNorm = requires(Index n, double e, const A* x, A* sum, T* norm) {
  { B::add_norm(n, n, x, x, x, x, e, sum, norm, sum, sum) } -> std::same_as<bool>;
};

/// Optional: losses over classes that say the largest logit of each row besides, for gradients that
/// are given it again.
template <class B, class M>
concept BackendRowTops = requires(Index n, bool b, double e, const M* x, M* y,
                                  const std::int32_t* i) {
  B::cross_entropy(n, n, x, i, e, y, y, y);
  B::template cross_entropy_backward<M>(n, n, x, i, e, x, x, b, y, x);
  B::distillation(n, n, x, x, e, y, y, y, y, y);
  B::template distillation_backward<M>(n, n, x, x, e, x, x, x, b, y, x, x);
};

/// Optional: dx = dsum + the gradient that layer_norm_backward makes of dnorm, in one pass; dx may
/// be dsum. False, with nothing written, where this shape is not served.
template <class B, class T, class A = accumulator_of<T>>
concept BackendAddNormGradient = requires(Index n, const A* x, const T* dnorm, A* sum) {
  { B::add_norm_backward(n, n, x, x, x, x, dnorm, x, sum, sum, sum) } -> std::same_as<bool>;
};

/// Optional: the gradient norm and the update of all parameters in a number of passes that does not
/// depend on how many there are. `assign` says where they lie, before each of the others.
/// gradient_norm adds to the sums of a StepState; a loss (one element, or null) that is not finite
/// makes them NaN. adamw takes its decay from the tensors and changes nothing where the norm is not
/// finite.
template <class B, class M>
concept BackendAdamWList = requires(typename B::template AdamWList<M>& list, StepState* state,
                                    std::span<const AdamWTensor<M>> tensors, const M* loss,
                                    const AdamWArgs& args) {
  list.assign(tensors);
  B::gradient_norm(list, loss, state);
  B::adamw(list, args);
};

/// Optional: a few bytes that begin their way to the host now, in the order of the calls, and are
/// waited for when they are read: for them alone, not for what was issued after them.
template <class B>
concept BackendDownload = std::movable<typename B::Download> &&
    std::constructible_from<typename B::Download, const void*, std::size_t> &&
    requires(const typename B::Download& sent, void* host) {
  sent.read(host);
};

/// Optional: what a function issues, recorded and run again as one: record(issue) calls issue once
/// and runs nothing of what it issues, replay(recording) runs it. Kernels get the same pointers
/// and extents then; what differs from step to step they read in the backend's memory: numbers of a
/// StepState, random numbers of dropout, inputs that `move` brings to where they were. M: the
/// scalar that masks are in.
template <class B, class M>
concept BackendReplay = requires(const std::function<void()>& issue, const Philox* random,
                                 std::uint64_t site, double p, Index n, M* y, const void* from,
                                 void* to, std::size_t bytes) {
  typename B::Recording;
  { B::record(issue) } -> std::same_as<typename B::Recording>;
  requires requires(const typename B::Recording& r) { B::replay(r); };
  B::move(from, to, bytes);
  B::dropout_mask(n, random, site, p, y);
};

/// Names the groups of kernels that a class lacks for layers without attention; instantiate it to
/// check.
template <class B, class T>
struct RequireFeedForwardBackend {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> ||
                    std::is_same_v<T, bfloat16>,
                "hybridmed: models compute in double, float or bfloat16");
  static_assert(BackendMemory<B>,
                "hybridmed: the backend lacks allocate, deallocate, copy_from_host or "
                "copy_to_host; see hybridmed/backend/concept.hpp");
  static_assert(BackendElementwise<B, T> && BackendElementwise<B, accumulator_of<T>>,
                "hybridmed: the backend lacks an element-wise kernel for this scalar; see "
                "BackendElementwise in hybridmed/backend/concept.hpp");
  static_assert(BackendProducts<B, T> && BackendProducts<B, accumulator_of<T>>,
                "hybridmed: the backend lacks gemm, add_vector or column_sum for this scalar; see "
                "BackendProducts in hybridmed/backend/concept.hpp");
  static_assert(BackendLayerNorm<B, T> && BackendLayerNorm<B, accumulator_of<T>>,
                "hybridmed: the backend lacks layer_norm or layer_norm_backward for this scalar; "
                "see BackendLayerNorm in hybridmed/backend/concept.hpp");
  static_assert(BackendConversion<B, T>,
                "hybridmed: the backend lacks convert for this scalar; see BackendConversion in "
                "hybridmed/backend/concept.hpp");
  static_assert(BackendCrossEntropy<B, master_of<T>>,
                "hybridmed: the backend lacks a softmax or sigmoid cross-entropy for this scalar; "
                "see BackendCrossEntropy in hybridmed/backend/concept.hpp");
  static_assert(BackendParameters<B, master_of<T>>,
                "hybridmed: the backend lacks fill_normal, dropout_mask, squared_norm, clamp or "
                "adamw for this scalar; see BackendParameters in hybridmed/backend/concept.hpp");
  static_assert(
      (BackendLinear<B, T> || !requires(const LinearArgs<T>& a) { B::linear(a); }) &&
          (BackendLinear<B, T, accumulator_of<T>> ||
           !requires(const LinearArgs<T, accumulator_of<T>>& a) { B::linear(a); }),
      "hybridmed: linear of a backend must return bool, false where it does not serve its "
      "arguments; see BackendLinear in hybridmed/backend/concept.hpp");
  static_assert(
      (BackendLinearGradients<B, T> ||
       !requires(const LinearGradients<T>& a) { B::linear_backward(a); }) &&
          (BackendLinearGradients<B, T, accumulator_of<T>> ||
           !requires(const LinearGradients<T, accumulator_of<T>>& a) { B::linear_backward(a); }),
      "hybridmed: linear_backward of a backend must return bool, false where it does not serve its "
      "arguments; see BackendLinearGradients in hybridmed/backend/concept.hpp");
  static_assert(
      BackendFusedAddNorm<B, T> ||
          !requires(Index n, double e, const accumulator_of<T>* x, accumulator_of<T>* sum,
                    T* norm) { B::add_norm(n, n, x, x, x, x, e, sum, norm, sum, sum); },
      "hybridmed: add_norm of a backend must return bool, false where it does not serve a shape; "
      "see BackendFusedAddNorm in hybridmed/backend/concept.hpp");
  static_assert(
      BackendAddNormGradient<B, T> ||
          !requires(Index n, const accumulator_of<T>* x, const T* dnorm, accumulator_of<T>* sum) {
            B::add_norm_backward(n, n, x, x, x, x, dnorm, x, sum, sum, sum);
          },
      "hybridmed: add_norm_backward of a backend must return bool, false where it does not serve a "
      "shape; see BackendAddNormGradient in hybridmed/backend/concept.hpp");
  static_assert(
      BackendAdamWList<B, master_of<T>> ||
          !requires { typename B::template AdamWList<master_of<T>>; },
      "hybridmed: a backend with an AdamWList needs assign of it, gradient_norm and adamw "
      "for this scalar; see BackendAdamWList in hybridmed/backend/concept.hpp");
  static_assert(
      BackendReplay<B, accumulator_of<T>> || !requires { typename B::Recording; },
      "hybridmed: a backend with a Recording needs record, replay, move and the "
      "dropout_mask of random numbers in its memory; see BackendReplay in "
      "hybridmed/backend/concept.hpp");
};

/// The same for whole models.
template <class B, class T>
struct RequireBackend : RequireFeedForwardBackend<B, T> {
  static_assert(BackendRows<B, T> && BackendRows<B, accumulator_of<T>>,
                "hybridmed: the backend lacks a kernel on rows for this scalar; see BackendRows in "
                "hybridmed/backend/concept.hpp");
  static_assert(BackendAttention<B, T>,
                "hybridmed: the backend lacks attention or attention_backward for this scalar; see "
                "BackendAttention in hybridmed/backend/concept.hpp");
  static_assert(BackendConvolution<B, T>,
                "hybridmed: the backend lacks a convolution, BatchNorm or pooling kernel for this "
                "scalar; see BackendConvolution in hybridmed/backend/concept.hpp");
  static_assert(BackendObjectives<B, master_of<T>>,
                "hybridmed: the backend lacks a kernel of the objectives for this scalar; see "
                "BackendObjectives in hybridmed/backend/concept.hpp");
};

}  // namespace hybridmed
