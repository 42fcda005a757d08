#pragma once
// bf16 kernels for a backend in host memory that computes in float: each widens its inputs, runs
// the float kernel, and rounds every result once. Right before fast: a kernel of a backend's own
// for bf16 takes the place of one of these.
#include <algorithm>

#include "hybridmed/backend/concept.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed {

namespace detail {
/// What Widened is made from.
template <class Kernels>
struct CompleteForFloat : Kernels {
  static_assert(Backend<Kernels, float>,
                "hybridmed: Widened adds bfloat16 to a backend in host memory that is complete for "
                "float; see docs/policies/backend.md");
};
template <class Kernels>
struct WidenedFrom : CompleteForFloat<Kernels> {};
/// One without the fused kernel serves no shape of it.
template <class Kernels>
requires(!BackendFusedAddNorm<Kernels, float>) struct WidenedFrom<Kernels>
    : CompleteForFloat<Kernels> {
  template <class T>
  static bool add_norm(Index, Index, const T*, const T*, const T*, const T*, double, T*, T*, T*,
                       T*) {
    return false;
  }
};
}  // namespace detail

/// `Kernels`: a backend for float. What only moves values (fill, copy, gather_rows, transpose,
/// patchify) is taken from it as it is.
template <class Kernels>
struct Widened : detail::WidenedFrom<Kernels> {
  using Half = bfloat16;

  /// y = x in another scalar, rounded to nearest even.
  static void convert(Index n, const Half* x, float* y) {
    tiles(n, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] = static_cast<float>(x[i]);
    });
  }
  static void convert(Index n, const float* x, Half* y) {
    tiles(n, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] = Half(x[i]);
    });
  }

  // ---- element-wise
  using Kernels::add;
  static void add(Index n, const Half* a, const Half* b, Half* y) {
    rounding(n, y, [&](float* out) { Kernels::add(n, In(n, a).data(), In(n, b).data(), out); });
  }
  using Kernels::multiply;
  static void multiply(Index n, const Half* a, const Half* b, Half* y) {
    rounding(n, y,
             [&](float* out) { Kernels::multiply(n, In(n, a).data(), In(n, b).data(), out); });
  }
  using Kernels::divide;
  static void divide(Index n, const Half* a, const Half* b, Half* y) {
    rounding(n, y, [&](float* out) { Kernels::divide(n, In(n, a).data(), In(n, b).data(), out); });
  }
  using Kernels::scale;
  static void scale(Index n, float alpha, const Half* x, Half* y) {
    rounding(n, y, [&](float* out) { Kernels::scale(n, alpha, In(n, x).data(), out); });
  }
  using Kernels::axpy;
  static void axpy(Index n, float alpha, const Half* x, float* y) {
    Kernels::axpy(n, alpha, In(n, x).data(), y);
  }
  using Kernels::scale_by;
  static void scale_by(Index n, const Half* alpha, const Half* x, Half* y) {
    rounding(n, y,
             [&](float* out) { Kernels::scale_by(n, In(1, alpha).data(), In(n, x).data(), out); });
  }
  using Kernels::dot;
  static void dot(Index n, float alpha, const Half* a, const Half* b, float* y) {
    Kernels::dot(n, alpha, In(n, a).data(), In(n, b).data(), y);
  }
  using Kernels::sum;
  static void sum(Index n, double factor, const Half* x, Half* y) {
    adding(1, y, [&](float* total) { sum(n, factor, x, total); });
  }
  static void sum(Index n, double factor, const Half* x, float* y) {
    Kernels::sum(n, factor, In(n, x).data(), y);
  }
  using Kernels::exponential;
  static void exponential(Index n, const Half* x, Half* y) {
    rounding(n, y, [&](float* out) { Kernels::exponential(n, In(n, x).data(), out); });
  }
  using Kernels::logarithm;
  static void logarithm(Index n, const Half* x, Half* y) {
    rounding(n, y, [&](float* out) { Kernels::logarithm(n, In(n, x).data(), out); });
  }
  using Kernels::activation;
  static void activation(Activation act, Index n, const Half* x, Half* y) {
    rounding(n, y, [&](float* out) { Kernels::activation(act, n, In(n, x).data(), out); });
  }
  using Kernels::activation_backward;
  static void activation_backward(Activation act, Index n, const Half* x, const Half* dy,
                                  Half* dx) {
    rounding(n, dx, [&](float* out) {
      Kernels::activation_backward(act, n, In(n, x).data(), In(n, dy).data(), out);
    });
  }

  // ---- products
  using Kernels::gemm;
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, float alpha, const Half* a,
                   Index lda, const Half* b, Index ldb, float beta, Half* c, Index ldc) {
    const Workspace<float> out(m * n);
    if (beta != 0) copy_rows(m, n, c, ldc, out.data(), n);
    gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, out.data(), n);
    copy_rows(m, n, out.data(), n, c, ldc);
  }
  /// A sum that stays in float: the gradient of a weight.
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, float alpha, const Half* a,
                   Index lda, const Half* b, Index ldb, float beta, float* c, Index ldc) {
    const Index a_cols = ta ? m : k, b_cols = tb ? k : n;
    const In wide_a(ta ? k : m, a_cols, a, lda), wide_b(tb ? n : k, b_cols, b, ldb);
    Kernels::gemm(ta, tb, m, n, k, alpha, wide_a.data(), a_cols, wide_b.data(), b_cols, beta, c,
                  ldc);
  }
  using Kernels::add_vector;
  static void add_vector(Index rows, Index cols, const Half* x, const float* v, Half* y) {
    rounding(rows * cols, y, [&](float* out) {
      Kernels::add_vector(rows, cols, In(rows * cols, x).data(), v, out);
    });
  }
  using Kernels::column_sum;
  static void column_sum(Index rows, Index cols, const Half* x, float* y) {
    Kernels::column_sum(rows, cols, In(rows * cols, x).data(), y);
  }

  // ---- LayerNorm, of a stream in float or of bf16
  using Kernels::layer_norm;
  static void layer_norm(Index rows, Index cols, const float* x, const float* gain,
                         const float* bias, double eps, Half* y, float* mean, float* rstd) {
    rounding(rows * cols, y, [&](float* out) {
      Kernels::layer_norm(rows, cols, x, gain, bias, eps, out, mean, rstd);
    });
  }
  static void layer_norm(Index rows, Index cols, const Half* x, const float* gain,
                         const float* bias, double eps, Half* y, float* mean, float* rstd) {
    layer_norm(rows, cols, In(rows * cols, x).data(), gain, bias, eps, y, mean, rstd);
  }
  using Kernels::layer_norm_backward;
  static void layer_norm_backward(Index rows, Index cols, const float* x, const float* gain,
                                  const float* mean, const float* rstd, const Half* dy, float* dx,
                                  float* dgain, float* dbias) {
    Kernels::layer_norm_backward(rows, cols, x, gain, mean, rstd, In(rows * cols, dy).data(), dx,
                                 dgain, dbias);
  }
  static void layer_norm_backward(Index rows, Index cols, const Half* x, const float* gain,
                                  const float* mean, const float* rstd, const Half* dy, Half* dx,
                                  float* dgain, float* dbias) {
    rounding(rows * cols, dx, [&](float* out) {
      layer_norm_backward(rows, cols, In(rows * cols, x).data(), gain, mean, rstd, dy, out, dgain,
                          dbias);
    });
  }

  using Kernels::add_norm;
  static bool add_norm(Index rows, Index cols, const float* x, const float* y, const float* gain,
                       const float* bias, double eps, float* sum, Half* norm, float* mean,
                       float* rstd) {
    const Workspace<float> out(rows * cols);
    if (!Kernels::add_norm(rows, cols, x, y, gain, bias, eps, sum, out.data(), mean, rstd))
      return false;
    convert(rows * cols, out.data(), norm);
    return true;
  }

  // ---- rows
  using Kernels::scatter_add_rows;
  static void scatter_add_rows(Index rows, Index cols, const Half* dy, const std::int32_t* index,
                               float* dx) {
    Kernels::scatter_add_rows(rows, cols, In(rows * cols, dy).data(), index, dx);
  }
  using Kernels::mix_rows;
  static void mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                       const std::int32_t* start, const std::int32_t* column, const float* weight,
                       const Half* x, Half* y) {
    rounding(batch * outputs * cols, y, [&](float* out) {
      Kernels::mix_rows(batch, outputs, inputs, cols, start, column, weight,
                        In(batch * inputs * cols, x).data(), out);
    });
  }
  using Kernels::normalize_rows;
  static void normalize_rows(Index rows, Index cols, const Half* x, Half* y, float* norm) {
    rounding(rows * cols, y, [&](float* out) {
      Kernels::normalize_rows(rows, cols, In(rows * cols, x).data(), out, norm);
    });
  }
  using Kernels::normalize_rows_backward;
  static void normalize_rows_backward(Index rows, Index cols, const Half* y, const float* norm,
                                      const Half* dy, Half* dx) {
    rounding(rows * cols, dx, [&](float* out) {
      Kernels::normalize_rows_backward(rows, cols, In(rows * cols, y).data(), norm,
                                       In(rows * cols, dy).data(), out);
    });
  }

  // ---- attention
  using Kernels::attention;
  static void attention(const AttentionArgs<Half>& a) {
    const Widths w(a);
    const In q(w.queries, w.cols, a.q, a.ldq), k(w.keys, w.cols, a.k, a.ldk),
        v(w.keys, w.cols, a.v, a.ldv);
    const Workspace<float> out(w.queries * w.cols);
    Kernels::attention(widened(a, w, q, k, v, out.data()));
    round_segments(a.segments, a.q_ranges, w.cols, out.data(), a.out, a.ldo);
  }
  using Kernels::attention_backward;
  static void attention_backward(const AttentionArgs<Half>& a, const AttentionGradients<Half>& g) {
    const Widths w(a);
    const In q(w.queries, w.cols, a.q, a.ldq), k(w.keys, w.cols, a.k, a.ldk),
        v(w.keys, w.cols, a.v, a.ldv), out(w.queries, w.cols, a.out, a.ldo),
        dout(w.queries, w.cols, g.dout, a.ldo);
    const Workspace<float> dq(w.queries * w.cols), dk(w.keys * w.cols), dv(w.keys * w.cols);
    Kernels::attention_backward(
        widened(a, w, q, k, v, out.data()),
        AttentionGradients<float>{dout.data(), dq.data(), dk.data(), dv.data(), g.dbias});
    round_segments(a.segments, a.q_ranges, w.cols, dq.data(), g.dq, a.ldq);
    round_segments(a.segments, a.k_ranges, w.cols, dk.data(), g.dk, a.ldk);
    round_segments(a.segments, a.k_ranges, w.cols, dv.data(), g.dv, a.ldv);
  }

  // ---- convolution, BatchNorm, max-pooling
  using Kernels::column_moments;
  static void column_moments(Index rows, Index cols, const Half* x, float* mean, float* var) {
    Kernels::column_moments(rows, cols, In(rows * cols, x).data(), mean, var);
  }
  using Kernels::batch_norm;
  static void batch_norm(Index rows, Index cols, const Half* x, const float* mean,
                         const float* rstd, const float* gain, const float* bias, Half* y) {
    rounding(rows * cols, y, [&](float* out) {
      Kernels::batch_norm(rows, cols, In(rows * cols, x).data(), mean, rstd, gain, bias, out);
    });
  }
  using Kernels::batch_norm_backward;
  static void batch_norm_backward(Index rows, Index cols, const Half* x, const float* mean,
                                  const float* rstd, const float* gain, const Half* dy,
                                  bool moments, Half* dx, float* dgain, float* dbias) {
    rounding(rows * cols, dx, [&](float* out) {
      Kernels::batch_norm_backward(rows, cols, In(rows * cols, x).data(), mean, rstd, gain,
                                   In(rows * cols, dy).data(), moments, out, dgain, dbias);
    });
  }
  using Kernels::conv2d;
  static void conv2d(const ConvShape& s, const Half* x, const Half* w, Half* y) {
    rounding(outputs(s), y, [&](float* out) {
      Kernels::conv2d(s, In(inputs(s), x).data(), In(weights(s), w).data(), out);
    });
  }
  using Kernels::conv2d_backward_input;
  static void conv2d_backward_input(const ConvShape& s, const Half* dy, const Half* w, Half* dx) {
    rounding(inputs(s), dx, [&](float* out) {
      Kernels::conv2d_backward_input(s, In(outputs(s), dy).data(), In(weights(s), w).data(), out);
    });
  }
  using Kernels::conv2d_backward_weight;
  static void conv2d_backward_weight(const ConvShape& s, const Half* x, const Half* dy, float* dw) {
    Kernels::conv2d_backward_weight(s, In(inputs(s), x).data(), In(outputs(s), dy).data(), dw);
  }
  using Kernels::max_pool;
  static void max_pool(const ConvShape& s, const Half* x, Half* y, std::int32_t* where) {
    rounding(s.batch * s.out_height() * s.out_width() * s.in, y,
             [&](float* out) { Kernels::max_pool(s, In(inputs(s), x).data(), out, where); });
  }
  using Kernels::max_pool_backward;
  static void max_pool_backward(const ConvShape& s, const Half* dy, const std::int32_t* where,
                                Half* dx) {
    if (s.batch <= 0) return;
    const Index n = s.batch * s.out_height() * s.out_width() * s.in;
    adding(inputs(s), dx,
           [&](float* sum) { Kernels::max_pool_backward(s, In(n, dy).data(), where, sum); });
  }

 private:
  template <class F>
  static void tiles(Index n, F&& f) {
    if constexpr (requires { typename Kernels::executor_policy; })
      executor::for_tiles<typename Kernels::executor_policy>(n, Index{1} << 15, f);
    else
      f(0, n);
  }
  template <class From, class To>
  static void copy_rows(Index rows, Index cols, const From* x, Index ldx, To* y, Index ldy) {
    if (ldx == cols && ldy == cols) return convert(rows * cols, x, y);
    for (Index r = 0; r < rows; ++r) convert(cols, x + r * ldx, y + r * ldy);
  }
  /// An input in float.
  class In {
   public:
    In(Index n, const Half* x) : wide_(n) { convert(n, x, wide_.data()); }
    In(Index rows, Index cols, const Half* x, Index ld) : wide_(rows * cols) {
      copy_rows(rows, cols, x, ld, wide_.data(), cols);
    }
    float* data() const { return wide_.data(); }

   private:
    Workspace<float> wide_;
  };
  /// f writes n numbers, which are rounded into y. A y of null is none.
  template <class F>
  static void rounding(Index n, Half* y, F&& f) {
    if (!y) return f(static_cast<float*>(nullptr));
    const Workspace<float> out(n);
    f(out.data());
    convert(n, out.data(), y);
  }
  /// f adds to n numbers, each rounded once.
  template <class F>
  static void adding(Index n, Half* y, F&& f) {
    const In sum(n, y);
    f(sum.data());
    convert(n, sum.data(), y);
  }
  static Index inputs(const ConvShape& s) { return s.batch * s.height * s.width * s.in; }
  static Index outputs(const ConvShape& s) {
    return s.batch * s.out_height() * s.out_width() * s.out;
  }
  static Index weights(const ConvShape& s) { return s.out * s.kernel * s.kernel * s.in; }

  /// Rows and columns that attention reads.
  struct Widths {
    Index queries = 0, keys = 0, cols = 0;
    explicit Widths(const AttentionArgs<Half>& a) : cols(a.heads * a.head_dim) {
      for (Index s = 0; s < a.segments; ++s) {
        queries = (std::max)(queries, Index{a.q_ranges[2 * s + 1]});
        keys = (std::max)(keys, Index{a.k_ranges[2 * s + 1]});
      }
    }
  };
  /// Rows in no segment keep what they hold.
  static void round_segments(Index segments, const std::int32_t* ranges, Index cols, const float* x,
                             Half* y, Index ldy) {
    for (Index s = 0; s < segments; ++s) {
      const Index begin = ranges[2 * s], end = ranges[2 * s + 1];
      copy_rows(end - begin, cols, x + begin * cols, cols, y + begin * ldy, ldy);
    }
  }
  static AttentionArgs<float> widened(const AttentionArgs<Half>& a, const Widths& w, const In& q,
                                      const In& k, const In& v, float* out) {
    AttentionArgs<float> f;
    f.segments = a.segments;
    f.heads = a.heads;
    f.head_dim = a.head_dim;
    f.q_ranges = a.q_ranges;
    f.k_ranges = a.k_ranges;
    f.query_rows = a.query_rows;
    f.longest_queries = a.longest_queries;
    f.longest_keys = a.longest_keys;
    f.causal = a.causal;
    f.scale = a.scale;
    f.q = q.data();
    f.k = k.data();
    f.v = v.data();
    f.ldq = f.ldk = f.ldv = f.ldo = w.cols;
    f.bias = a.bias;
    f.mask = a.mask;
    f.windows = a.windows;
    f.area = a.area;
    f.out = out;
    f.lse = a.lse;
    return f;
  }
};

}  // namespace hybridmed
