#pragma once
// What a backend must offer: a class with these static members, for every scalar T that models use it with. Kernels take raw
// pointers and extents of the backend's memory; backend/reference/ says exactly what each computes. A kernel that is only an
// optimisation of others does not belong here.
#include <concepts>
#include <cstddef>
#include <cstdint>

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

/// Element-wise kernels, activations, random numbers, the optimizer.
template <class B, class T>
concept BackendElementwise = requires(Index n, T a, const T* x, T* y, Activation act, Philox random, double p, const AdamWArgs& adamw) {
  B::fill(n, a, y), B::copy(n, x, y), B::add(n, x, x, y), B::multiply(n, x, x, y), B::scale(n, a, x, y), B::axpy(n, a, x, y), B::scale_by(n, x, x, y), B::dot(n, a, x, x, y);
  B::exponential(n, x, y), B::clamp(n, a, a, y), B::reciprocal_sqrt(n, x, a, y), B::activation(act, n, x, y), B::activation_backward(act, n, x, x, y);
  B::fill_normal(n, random, p, y), B::dropout_mask(n, random, p, y), B::adamw(n, adamw, x, y, y, y);
  { B::squared_norm(n, x) } -> std::convertible_to<double>;
};

/// Kernels on rows, and layout changes.
template <class B, class T>
concept BackendRows = requires(Index n, const T* x, T* y, const std::int32_t* i, std::int32_t* o) {
  B::gather_rows(n, n, x, i, y), B::scatter_add_rows(n, n, x, i, y), B::add_vector(n, n, x, x, y), B::column_sum(n, n, x, y), B::mix_rows(n, n, n, n, i, i, x, x, y);
  B::normalize_rows(n, n, x, y, y), B::normalize_rows_backward(n, n, x, x, x, y), B::argmax_rows(n, n, x, o), B::transpose(n, n, n, x, y), B::patchify(n, n, n, n, x, y);
};

/// Products, norms, attention, convolution.
template <class B, class T>
concept BackendLayers = requires(Index n, bool b, T a, double e, const T* x, T* y, std::int32_t* o, const std::int32_t* i, const AttentionArgs<T>& attention, const AttentionGradients<T>& gradients, const ConvShape& conv) {
  B::gemm(b, b, n, n, n, a, x, n, x, n, a, y, n);
  B::layer_norm(n, n, x, x, x, e, y, y, y), B::layer_norm_backward(n, n, x, x, x, x, x, y, y, y);
  B::column_moments(n, n, x, y, y), B::batch_norm(n, n, x, x, x, x, x, y), B::batch_norm_backward(n, n, x, x, x, x, x, b, y, y, y);
  B::attention(attention), B::attention_backward(attention, gradients);
  B::conv2d(conv, x, x, y), B::conv2d_backward_input(conv, x, x, y), B::conv2d_backward_weight(conv, x, x, y), B::max_pool(conv, x, y, o), B::max_pool_backward(n, x, i, y);
};

/// Kernels of the objectives.
template <class B, class T>
concept BackendLosses = requires(Index n, bool b, double e, const T* x, T* y, const std::int32_t* i, const LocalArgs<T>& local) {
  B::cross_entropy(n, n, x, i, e, y, y), B::cross_entropy_backward(n, n, x, i, e, x, x, b, y), B::distillation(n, n, x, x, e, y, y, y), B::distillation_backward(n, n, x, x, e, x, x, x, b, y);
  B::symmetric_cross_entropy(n, x, i, e, e, e, y, y), B::local_scores(local, y), B::local_scores_backward(local, x, y, y);
};

template <class B, class T>
concept Backend = BackendMemory<B> && BackendElementwise<B, T> && BackendRows<B, T> && BackendLayers<B, T> && BackendLosses<B, T>;

/// Names the group of kernels that a class lacks; put it in a static_assert position by deriving from or instantiating it.
template <class B, class T>
struct RequireBackend {
  static_assert(BackendMemory<B>, "hybridmed: the backend lacks allocate, deallocate, copy_from_host or copy_to_host; see hybridmed/backend/concept.hpp");
  static_assert(BackendElementwise<B, T>, "hybridmed: the backend lacks an element-wise kernel for this scalar; see BackendElementwise in hybridmed/backend/concept.hpp");
  static_assert(BackendRows<B, T>, "hybridmed: the backend lacks a kernel on rows for this scalar; see BackendRows in hybridmed/backend/concept.hpp");
  static_assert(BackendLayers<B, T>, "hybridmed: the backend lacks a product, norm, attention or convolution kernel for this scalar; see BackendLayers in hybridmed/backend/concept.hpp");
  static_assert(BackendLosses<B, T>, "hybridmed: the backend lacks a kernel of the objectives for this scalar; see BackendLosses in hybridmed/backend/concept.hpp");
};

}  // namespace hybridmed
