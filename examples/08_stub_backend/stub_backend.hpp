#pragma once
// A backend to copy: it satisfies the whole concept and computes nothing. Fill in one group after
// the other and compare each kernel with `Reference`, which says what it computes
// (hybridmed/backend/reference/); docs/policies/backend.md gives the order. Sums<T> is T in double
// and float, and float in bf16: a backend without bf16 writes T everywhere, and no convert.
#include <cstdlib>
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/core/error.hpp>

struct StubBackend {
  static constexpr const char* name = "stub";
  using Index = hybridmed::Index;
  using Ids = const std::int32_t*;
  template <class T>
  using Sums = hybridmed::accumulator_of<T>;
  [[noreturn]] static void todo(const char* kernel) {
    hybridmed::fail("stub", kernel, "this kernel is not written yet");
  }

  // 1. memory: enough to create tensors and copy them in and out
  static void* allocate(std::size_t bytes) { return std::malloc(bytes ? bytes : 1); }
  static void deallocate(void* p) noexcept { std::free(p); }
  static void copy_from_host(const void*, void*, std::size_t) { todo("copy_from_host"); }
  static void copy_to_host(const void*, void*, std::size_t) { todo("copy_to_host"); }

  // 2. element by element
  template <class T>
  static void fill(Index, T, T*) {
    todo("fill");
  }
  template <class T>
  static void copy(Index, const T*, T*) {
    todo("copy");
  }
  template <class T>
  static void add(Index, const T*, const T*, T*) {
    todo("add");
  }
  template <class T>
  static void multiply(Index, const T*, const T*, T*) {
    todo("multiply");
  }
  template <class T>
  static void divide(Index, const T*, const T*, T*) {
    todo("divide");
  }
  template <class T>
  static void scale(Index, Sums<T>, const T*, T*) {
    todo("scale");
  }
  template <class T>
  static void axpy(Index, Sums<T>, const T*, Sums<T>*) {
    todo("axpy");
  }
  template <class T>
  static void scale_by(Index, const T*, const T*, T*) {
    todo("scale_by");
  }
  template <class T>
  static void dot(Index, Sums<T>, const T*, const T*, Sums<T>*) {
    todo("dot");
  }
  template <class T, class Y>
  static void sum(Index, double, const T*, Y*) {  // Y: T or Sums<T>
    todo("sum");
  }
  template <class T>
  static void exponential(Index, const T*, T*) {
    todo("exponential");
  }
  template <class T>
  static void logarithm(Index, const T*, T*) {
    todo("logarithm");
  }
  template <class T>
  static void clamp(Index, T, T, T*) {
    todo("clamp");
  }
  template <class T>
  static void reciprocal_sqrt(Index, const T*, T, T*) {
    todo("reciprocal_sqrt");
  }
  template <class T>
  static void activation(hybridmed::Activation, Index, const T*, T*) {
    todo("activation");
  }
  template <class T>
  static void activation_backward(hybridmed::Activation, Index, const T*, const T*, T*) {
    todo("activation_backward");
  }
  template <class T>
  static void sigmoid_cross_entropy(Index, const T*, const T*, T*) {
    todo("sigmoid_cross_entropy");
  }
  template <class T>
  static void sigmoid_cross_entropy_backward(Index, const T*, const T*, const T*, T*) {
    todo("sigmoid_cross_entropy_backward");
  }
  template <class T>
  static void fill_normal(Index, hybridmed::Philox, double, T*) {
    todo("fill_normal");
  }
  template <class T>
  static void dropout_mask(Index, hybridmed::Philox, double, T*) {
    todo("dropout_mask");
  }
  template <class T>
  static void squared_norm(Index, const T*, double*) {
    todo("squared_norm");
  }
  template <class From, class To>
  static void convert(Index, const From*, To*) {
    todo("convert");
  }

  // 3. products, LayerNorm, cross-entropy, the optimizer: a feed-forward classifier trains from
  // here on
  template <class T, class Y>
  static void gemm(bool, bool, Index, Index, Index, Sums<T>, const T*, Index, const T*, Index,
                   Sums<T>, Y*, Index) {
    todo("gemm");
  }
  template <class T>
  static void add_vector(Index, Index, const T*, const Sums<T>*, T*) {
    todo("add_vector");
  }
  template <class T>
  static void column_sum(Index, Index, const T*, Sums<T>*) {
    todo("column_sum");
  }
  template <class X, class T>
  static void layer_norm(Index, Index, const X*, const Sums<T>*, const Sums<T>*, double, T*,
                         Sums<T>*, Sums<T>*) {
    todo("layer_norm");
  }
  template <class X, class T>
  static void layer_norm_backward(Index, Index, const X*, const Sums<T>*, const Sums<T>*,
                                  const Sums<T>*, const T*, X*, Sums<T>*, Sums<T>*) {
    todo("layer_norm_backward");
  }
  template <class T>
  static void cross_entropy(Index, Index, const T*, Ids, double, T*, T*) {
    todo("cross_entropy");
  }
  template <class T>
  static void cross_entropy_backward(Index, Index, const T*, Ids, double, const T*, const T*, bool,
                                     T*) {
    todo("cross_entropy_backward");
  }
  template <class T>
  static void adamw(Index, const hybridmed::AdamWArgs&, const T*, T*, T*, T*) {
    todo("adamw");
  }

  // 4. rows and attention: text encoder and decoder
  template <class T>
  static void gather_rows(Index, Index, const T*, Ids, T*) {
    todo("gather_rows");
  }
  template <class T>
  static void scatter_add_rows(Index, Index, const T*, Ids, Sums<T>*) {
    todo("scatter_add_rows");
  }
  template <class T>
  static void mix_rows(Index, Index, Index, Index, Ids, Ids, const Sums<T>*, const T*, T*) {
    todo("mix_rows");
  }
  template <class T>
  static void normalize_rows(Index, Index, const T*, T*, Sums<T>*) {
    todo("normalize_rows");
  }
  template <class T>
  static void normalize_rows_backward(Index, Index, const T*, const Sums<T>*, const T*, T*) {
    todo("normalize_rows_backward");
  }
  static void repeat_indices(Index, Ids, Index, Index, std::int32_t*) { todo("repeat_indices"); }
  template <class T>
  static void transpose(Index, Index, Index, const T*, T*) {
    todo("transpose");
  }
  template <class T>
  static void patchify(Index, Index, Index, Index, const T*, T*) {
    todo("patchify");
  }
  template <class T>
  static void attention(const hybridmed::AttentionArgs<T>&) {
    todo("attention");
  }
  template <class T>
  static void attention_backward(const hybridmed::AttentionArgs<T>&,
                                 const hybridmed::AttentionGradients<T>&) {
    todo("attention_backward");
  }

  // 5. convolution: the ResNet
  template <class T>
  static void column_moments(Index, Index, const T*, Sums<T>*, Sums<T>*) {
    todo("column_moments");
  }
  template <class T>
  static void batch_norm(Index, Index, const T*, const Sums<T>*, const Sums<T>*, const Sums<T>*,
                         const Sums<T>*, T*) {
    todo("batch_norm");
  }
  template <class T>
  static void batch_norm_backward(Index, Index, const T*, const Sums<T>*, const Sums<T>*,
                                  const Sums<T>*, const T*, bool, T*, Sums<T>*, Sums<T>*) {
    todo("batch_norm_backward");
  }
  template <class T>
  static void conv2d(const hybridmed::ConvShape&, const T*, const T*, T*) {
    todo("conv2d");
  }
  template <class T>
  static void conv2d_backward_input(const hybridmed::ConvShape&, const T*, const T*, T*) {
    todo("conv2d_backward_input");
  }
  template <class T>
  static void conv2d_backward_weight(const hybridmed::ConvShape&, const T*, const T*, Sums<T>*) {
    todo("conv2d_backward_weight");
  }
  template <class T>
  static void max_pool(const hybridmed::ConvShape&, const T*, T*, std::int32_t*) {
    todo("max_pool");
  }
  template <class T>
  static void max_pool_backward(const hybridmed::ConvShape&, const T*, Ids, T*) {
    todo("max_pool_backward");
  }

  // 6. objectives
  template <class T>
  static void distillation(Index, Index, const T*, const T*, double, T*, T*, T*) {
    todo("distillation");
  }
  template <class T>
  static void distillation_backward(Index, Index, const T*, const T*, double, const T*, const T*,
                                    const T*, bool, T*) {
    todo("distillation_backward");
  }
  template <class T>
  static void symmetric_cross_entropy(Index, const T*, Ids, double, double, double, T*, T*) {
    todo("symmetric_cross_entropy");
  }
  template <class T>
  static void local_scores(const hybridmed::LocalArgs<T>&, T*) {
    todo("local_scores");
  }
  template <class T>
  static void local_scores_backward(const hybridmed::LocalArgs<T>&, const T*, T*, T*) {
    todo("local_scores_backward");
  }
  template <class T>
  static void token_alignment(const hybridmed::TokenArgs<T>&, T*) {
    todo("token_alignment");
  }
  template <class T>
  static void token_alignment_backward(const hybridmed::TokenArgs<T>&, const T*, T*, T*) {
    todo("token_alignment_backward");
  }
  template <class T>
  static void soft_cross_entropy(Index, Index, const T*, const T*, double, T*, T*) {
    todo("soft_cross_entropy");
  }
  template <class T>
  static void soft_cross_entropy_backward(Index, Index, const T*, const T*, double, const T*,
                                          const T*, bool, T*) {
    todo("soft_cross_entropy_backward");
  }
  template <class T>
  static void sinkhorn(Index, Index, const T*, double, Index, T*) {
    todo("sinkhorn");
  }
};
