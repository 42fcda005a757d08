#pragma once
// The recorder's kernels of layers: products, LayerNorm, convolutional networks.
#include <type_traits>

#include "elements.hpp"

namespace hybridmed::roofline {

struct Layers {
  // ---- products: cuBLAS's and cuBLASLt's, whose own accesses nobody counts
  template <class T, class C>
  static void gemm(bool, bool, Index m, Index n, Index k, accumulator_of<T>, const T* a, Index,
                   const T* b, Index, accumulator_of<T> beta, C* c, Index) {
    std::vector<Span> reads{span(m * k, a), span(k * n, b)};
    if (beta != 0) reads.push_back(span(m * n, c));
    product<T>(std::move(reads), {span(m * n, c)}, 2 * real(m, n, k));
  }
  /// As cuBLASLt serves it: the bias within the product, a residual sum where the result is wide,
  /// and tanh-form GELU with what it is applied to. The bias of a result in bf16 is rounded first.
  template <class T, class Y>
  static bool linear(const LinearArgs<T, Y>& a) {
    if (std::is_same_v<T, double> || !a.bias) return false;
    if (a.residual && std::is_same_v<Y, bfloat16>) return false;
    const bool gelu =
                   a.activation == Activation::gelu_tanh && a.pre && a.out % 8 == 0 && !a.residual,
               plain = a.activation == Activation::identity && !a.pre,
               half = std::is_same_v<Y, bfloat16>;
    if (!half && !gelu && !plain) return false;
    if (half) elements("convert", {span(a.out, a.bias)}, {{0, 2.0 * real(a.out)}});
    Y* const made = gelu || !a.pre ? a.y : a.pre;
    const Index n = a.rows * a.out;
    std::vector<Span> writes{span(n, made)};
    if (gelu) writes.push_back(span(n, a.pre));
    std::vector<Span> reads{span(a.rows * a.in, a.x), span(a.out * a.in, a.weight),
                            half ? Span{0, 2.0 * real(a.out)} : span(a.out, a.bias)};
    if (a.residual) reads.push_back(span(n, a.residual));
    product<T>(std::move(reads), std::move(writes), 2 * real(a.rows, a.in, a.out));
    if (gelu) return true;
    if (a.activation != Activation::identity)
      Elements::activation(a.activation, n, made, a.y);
    else if (made != a.y)
      Elements::copy(n, made, a.y);
    return true;
  }
  /// For activations other than tanh-form GELU, as the models have them.
  template <class T, class Y>
  static bool linear_backward(const LinearGradients<T, Y>& a) {
    if (std::is_same_v<T, double>) return false;
    const Index ny = a.rows * a.out, nx = a.rows * a.in;
    const T* dy = nullptr;
    if constexpr (std::is_same_v<T, Y>) {
      dy = a.dy;
    } else {  // a pass that rounds and adds up
      if (a.dweight.to || a.dx)
        dy = static_cast<const T*>(Addresses::allocate(static_cast<std::size_t>(ny) * sizeof(T)));
      column_pass("convert + column sums", a.rows, a.out, {span(ny, a.dy)}, {span(dy ? ny : 0, dy)},
                  a.dbias);
    }
    if (a.dx) {
      gemm(false, false, a.rows, a.in, a.out, 1, dy, a.out, a.weight, a.in, 0, a.dx, a.in);
      if (a.pre) {
        std::vector<Span> made{span(nx, a.dx)};
        if (a.dweight.to) made.push_back(span(nx, a.pre));
        column_pass("activation + column sums", a.rows, a.in, {span(nx, a.pre), span(nx, a.dx)},
                    std::move(made), a.dx_sum);
      }
    } else if (a.pre && a.dweight.to) {
      Elements::activation(a.activation, nx, a.pre, a.pre);
    }
    const T* x = a.pre ? a.pre : a.x;
    const bool sums = std::is_same_v<T, Y> && a.dbias.to;
    if (a.dweight.to) {
      std::vector<Span> reads{span(ny, dy), span(nx, x)}, writes{span(a.out * a.in, a.dweight.to)};
      if (a.dweight.holds) reads.push_back(writes[0]);
      const Span anew{1, sizeof(float) * real(a.out)};  // added to what is held by a kernel
      if (sums) writes.push_back(a.dbias.holds ? anew : span(a.out, a.dbias.to));
      product<T>(std::move(reads), std::move(writes), 2 * real(a.rows, a.in, a.out));
      if (sums && a.dbias.holds)
        elements("add", {anew, span(a.out, a.dbias.to)}, {span(a.out, a.dbias.to)});
    } else if (sums) {
      if (!a.dbias.holds) Elements::fill(a.out, accumulator_of<T>(0), a.dbias.to);
      column_sum(a.rows, a.out, dy, a.dbias.to);
    }
    return true;
  }
  template <class T, class V>
  static void add_vector(Index rows, Index cols, const T* x, const V* v, T* y) {
    elements("add_vector", {span(rows * cols, x), span(cols, v)}, {span(rows * cols, y)});
  }
  template <class T>
  static void column_sum(Index rows, Index cols, const T* x, accumulator_of<T>* y) {
    note({"column_sum",
          Pass::rows,
          2,
          {span(rows * cols, x), span(cols, y)},
          {span(cols, y)},
          partial_sums(rows, rows_per_tile, real(cols))});
  }

  // ---- LayerNorm: rows of up to 1024 numbers are read once, longer ones three times; sums of gain
  // and bias over 64 rows go through memory
  template <class X, class Y, class A>
  static void layer_norm(Index rows, Index cols, const X* x, const A* gain, const A* bias, double,
                         Y* y, A* mean, A* rstd) {
    const Index n = rows * cols;
    note({"layer_norm",
          Pass::rows,
          1,
          {span(n, x), span(cols, gain), span(cols, bias)},
          {span(n, y), span(rows, mean), span(rows, rstd)},
          0,
          0,
          cols > longest_held ? 2 * span(n, x).bytes : 0});
  }
  template <class Y, class A>
  static bool add_norm(Index rows, Index cols, const A* x, const A* y, const A* gain, const A* bias,
                       double, A* sum, Y* norm, A* mean, A* rstd) {
    const Index n = rows * cols;
    note({"layer_norm",
          Pass::rows,
          1,
          {span(n, x), span(n, y), span(cols, gain), span(cols, bias)},
          {span(n, sum), span(n, norm), span(rows, mean), span(rows, rstd)},
          0,
          0,
          cols > longest_held ? 4 * span(n, x).bytes : 0});
    return true;
  }
  template <class X, class G, class D, class A>
  static void layer_norm_backward(Index rows, Index cols, const X* x, const A* gain, const A* mean,
                                  const A* rstd, const G* dy, D* dx, A* dgain, A* dbias) {
    norm_backward(rows, cols, x, gain, mean, rstd, dy, static_cast<const X*>(nullptr), dx, dgain,
                  dbias);
  }
  template <class G, class A>
  static bool add_norm_backward(Index rows, Index cols, const A* sum, const A* gain, const A* mean,
                                const A* rstd, const G* dnorm, const A* dsum, A* dx, A* dgain,
                                A* dbias) {
    norm_backward(rows, cols, sum, gain, mean, rstd, dnorm, dsum, dx, dgain, dbias);
    return true;
  }

  // ---- convolutional networks: products over gathered patches
  template <class T, class A>
  static void column_moments(Index rows, Index cols, const T* x, A* mean, A* var) {
    note({"batch_norm",
          Pass::rows,
          2,
          {span(rows * cols, x)},
          {span(cols, mean), span(cols, var)},
          partial_sums(rows, rows_per_chunk, 3 * real(cols)),
          0,
          span(rows * cols, x).bytes});
  }
  template <class T, class A>
  static void batch_norm(Index rows, Index cols, const T* x, const A* mean, const A* rstd,
                         const A* gain, const A* bias, T* y) {
    elements("batch_norm",
             {span(rows * cols, x), span(cols, mean), span(cols, rstd), span(cols, gain),
              span(cols, bias)},
             {span(rows * cols, y)});
  }
  template <class T, class A>
  static void batch_norm_backward(Index rows, Index cols, const T* x, const A* mean, const A* rstd,
                                  const A* gain, const T* dy, bool, T* dx, A* dgain, A* dbias) {
    const Index n = rows * cols;
    note({"batch_norm",
          Pass::rows,
          3,
          {span(n, x), span(n, dy), span(cols, mean), span(cols, rstd), span(cols, gain),
           span(cols, dgain), span(cols, dbias)},
          {span(n, dx), span(cols, dgain), span(cols, dbias)},
          partial_sums(rows, rows_per_chunk, 2 * real(cols)) + partial_sums(cols, 1, 3),
          span(n, x).bytes + span(n, dy).bytes + span(2 * cols, mean).bytes});
  }
  template <class T>
  static void conv2d(const ConvShape& s, const T* x, const T* w, T* y) {
    convolution<T>(s, span(places(s) * s.out, y), {span(inputs(s), x), span(weights(s), w)});
  }
  template <class T>
  static void conv2d_backward_input(const ConvShape& s, const T* dy, const T* w, T* dx) {
    convolution<T>(s, span(inputs(s), dx), {span(places(s) * s.out, dy), span(weights(s), w)});
  }
  template <class T>
  static void conv2d_backward_weight(const ConvShape& s, const T* x, const T* dy,
                                     accumulator_of<T>* dw) {
    convolution<T>(s, span(weights(s), dw), {span(inputs(s), x), span(places(s) * s.out, dy)});
  }
  template <class T>
  static void max_pool(const ConvShape& s, const T* x, T* y, std::int32_t* where) {
    const Index n = places(s) * s.in;
    note({"max_pool", Pass::index, 1, {span(inputs(s), x)}, {span(n, y), span(n, where)}});
  }
  template <class T>
  static void max_pool_backward(const ConvShape& s, const T* dy, const std::int32_t* where, T* dx) {
    const Index n = places(s) * s.in;
    note({"max_pool",
          Pass::index,
          1,
          {span(n, dy), span(n, where), span(inputs(s), dx)},
          {span(inputs(s), dx)}});
  }

 private:
  static constexpr Index longest_held = 1024,  // as in layer_norm.cu
      rows_per_block = 64,
                         rows_per_chunk = 256,  // as in column_sums.cuh
      rows_per_tile = 128;                      // as in column_pass.cuh

  template <class X, class G, class D, class A>
  static void norm_backward(Index rows, Index cols, const X* x, const A* gain, const A* mean,
                            const A* rstd, const G* dy, const X* more, D* dx, A* dgain, A* dbias) {
    const Index n = rows * cols;
    const bool slopes = dgain || dbias, held = cols <= longest_held,
               together = slopes && held && std::is_same_v<A, float>;
    const double inputs = span(n, x).bytes + span(n, dy).bytes;
    Entry e{"layer_norm_backward",
            Pass::rows,
            0,
            {span(n, x), span(n, dy), span(rows, mean), span(rows, rstd)},
            {span(dx ? n : 0, dx), span(dgain ? cols : 0, dgain), span(dbias ? cols : 0, dbias)}};
    if (dx || together) e.reads.push_back(span(cols, gain));
    if (more) e.reads.push_back(span(n, more));
    if (dgain) e.reads.push_back(span(cols, dgain));
    if (dbias) e.reads.push_back(span(cols, dbias));
    if (slopes && !together) {  // sums of columns first, then dx
      e.launches = 2;
      e.scratch = partial_sums(rows, rows_per_chunk, 2 * real(cols));
    }
    if (dx || together) ++e.launches;
    if (slopes && !together && dx) e.twice = inputs + 2 * span(rows, mean).bytes;
    if (together) {
      ++e.launches;
      e.scratch = 2 * sizeof(A) * std::ceil(real(rows) / rows_per_block) * 2 * real(cols);
      // One by one, the numbers of four rows do not fit into registers.
      if (sizeof(X) > 2 && (sizeof(G) > 2 || cols % 8 != 0) && dx) e.again = span(n, dy).bytes;
    } else if (dx && !held) {
      e.again = inputs;
    }
    note(std::move(e));
  }

  /// One pass that adds up columns on the way.
  template <class Sum>
  static void column_pass(std::string_view kind, Index rows, Index cols, std::vector<Span> reads,
                          std::vector<Span> writes, const Sum& sum) {
    Entry e{kind, Pass::rows, sum.to ? 2 : 1, std::move(reads), std::move(writes)};
    if (sum.to) {
      e.scratch = partial_sums(rows, rows_per_tile, real(cols));
      if (sum.holds) e.reads.push_back(span(cols, sum.to));
      e.writes.push_back(span(cols, sum.to));
    }
    note(std::move(e));
  }
  template <class T>
  static void product(std::vector<Span> reads, std::vector<Span> writes, double flops) {
    note({"product", Pass::product, 1, std::move(reads), std::move(writes), 0, 0, 0, flops,
          std::is_same_v<T, bfloat16>, true});
  }

  static Index places(const ConvShape& s) { return s.batch * s.out_height() * s.out_width(); }
  static Index inputs(const ConvShape& s) { return s.batch * s.height * s.width * s.in; }
  static Index weights(const ConvShape& s) { return s.out * s.kernel * s.kernel * s.in; }
  template <class T>
  static void convolution(const ConvShape& s, Span result, std::vector<Span> reads) {
    const Index taps = s.kernel * s.kernel * s.in;
    const bool pointwise = s.kernel == 1 && s.stride == 1 && s.pad == 0;
    note({"convolution",
          Pass::product,
          pointwise ? 1 : 2,
          std::move(reads),
          {result},
          pointwise ? 0 : 2 * real(places(s), taps) * sizeof(T),
          0,
          0,
          2 * real(places(s), taps, s.out),
          std::is_same_v<T, bfloat16>,
          true});
  }
};

}  // namespace hybridmed::roofline
