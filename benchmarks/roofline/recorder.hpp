#pragma once
// A backend that computes nothing: it notes what the CUDA backend would launch for each call, what
// that moves and what it computes. Its memory is addresses and nothing else, so that a step of any
// size is recorded in a moment. What a kernel moves beyond each input and output once stands at its
// call, as in the .cu file of that name.
#include <cmath>
#include <cstring>
#include <span>

#include "hybridmed/backend/concept.hpp"
#include "ledger.hpp"

namespace hybridmed::roofline {

struct Recorder {
  static constexpr const char* name = "recorder";
  static inline Ledger ledger;

  // ---- memory: addresses that nothing lies at; what the host has put there is kept where it is
  // short, since index ranges decide how much work there is
  static void* allocate(std::size_t bytes) {
    const std::uintptr_t at = next_;
    next_ += (bytes + 511) / 256 * 256;
    return reinterpret_cast<void*>(at);
  }
  static void deallocate(void*) noexcept {}
  static void copy_from_host(const void* host, void* device, std::size_t bytes) {
    if (bytes > std::size_t{1} << 20 || bytes == 0) return;
    const auto* first = static_cast<const std::byte*>(host);
    kept_[reinterpret_cast<std::uintptr_t>(device)] = {first, first + bytes};
  }
  static void copy_to_host(const void*, void* host, std::size_t bytes) {
    std::memset(host, 0, bytes);
  }

  // ---- element by element
  template <class T>
  static void fill(Index n, T, T* y) {
    elements("fill", {}, {span(n, y)});
  }
  template <class T>
  static void copy(Index n, const T* x, T* y) {
    elements("copy", {span(n, x)}, {span(n, y)});
  }
  template <class X, class Y>
  static void convert(Index n, const X* x, Y* y) {
    elements("convert", {span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void add(Index n, const T* a, const T* b, T* y) {
    elements("add", {span(n, a), span(n, b)}, {span(n, y)});
  }
  template <class T>
  static void multiply(Index n, const T* a, const T* b, T* y) {
    elements("multiply", {span(n, a), span(n, b)}, {span(n, y)});
  }
  template <class T>
  static void divide(Index n, const T* a, const T* b, T* y) {
    elements("divide", {span(n, a), span(n, b)}, {span(n, y)});
  }
  template <class T>
  static void scale(Index n, accumulator_of<T>, const T* x, T* y) {
    elements("scale", {span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void axpy(Index n, accumulator_of<T>, const T* x, accumulator_of<T>* y) {
    elements("axpy", {span(n, x), span(n, y)}, {span(n, y)});
  }
  template <class T>
  static void scale_by(Index n, const T* alpha, const T* x, T* y) {
    elements("scale_by", {span(1, alpha), span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void dot(Index n, accumulator_of<T>, const T* a, const T* b, accumulator_of<T>* y) {
    note({"dot", Pass::rows, 2, {span(n, a), span(n, b), span(1, y)}, {span(1, y)}});
  }
  template <class T, class Y>
  static void sum(Index n, double, const T* x, Y* y) {
    note({"sum", Pass::rows, 2, {span(n, x), span(1, y)}, {span(1, y)}});
  }
  template <class T>
  static void exponential(Index n, const T* x, T* y) {
    elements("exponential", {span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void logarithm(Index n, const T* x, T* y) {
    elements("logarithm", {span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void clamp(Index n, T, T, T* y) {
    elements("clamp", {span(n, y)}, {span(n, y)});
  }
  template <class T>
  static void reciprocal_sqrt(Index n, const T* x, T, T* y) {
    elements("reciprocal_sqrt", {span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void activation(Activation, Index n, const T* x, T* y) {
    elements("activation", {span(n, x)}, {span(n, y)});
  }
  template <class T>
  static void activation_backward(Activation, Index n, const T* x, const T* dy, T* dx) {
    elements("activation_backward", {span(n, x), span(n, dy)}, {span(n, dx)});
  }
  template <class T>
  static void sigmoid_cross_entropy(Index n, const T* x, const T* z, T* y) {
    elements("sigmoid_cross_entropy", {span(n, x), span(n, z)}, {span(n, y)});
  }
  template <class T>
  static void sigmoid_cross_entropy_backward(Index n, const T* x, const T* z, const T* dy, T* dx) {
    elements("sigmoid_cross_entropy_backward", {span(n, x), span(n, z), span(n, dy)},
             {span(n, dx)});
  }
  template <class T>
  static void fill_normal(Index n, Philox, double, T* y) {
    elements("fill_normal", {}, {span(n, y)});
  }
  template <class T>
  static void dropout_mask(Index n, Philox, double, T* y) {
    elements("dropout_mask", {}, {span(n, y)});
  }
  template <class T>
  static void squared_norm(Index n, const T* x, double* sum) {
    note({"clip + AdamW", Pass::update, 2, {span(n, x), span(1, sum)}, {span(1, sum)}});
  }
  template <class T>
  static void adamw(Index n, const AdamWArgs&, const T* g, T* m, T* v, T* p) {
    note({"clip + AdamW",
          Pass::update,
          1,
          {span(g ? n : 0, g), span(n, m), span(n, v), span(n, p)},
          {span(n, m), span(n, v), span(n, p)}});
  }

  /// Norm and update of all parameters: three launches.
  template <class M>
  struct AdamWList {
    std::vector<AdamWTensor<M>> tensors;
    void assign(std::span<const AdamWTensor<M>> all) { tensors.assign(all.begin(), all.end()); }
  };
  template <class M>
  static void gradient_norm(const AdamWList<M>& list, const M*, StepState* state) {
    Entry e{"clip + AdamW", Pass::update, 2, {span(1, state)}, {span(1, state)}};
    for (const auto& t : list.tensors)
      if (t.gradient) e.reads.push_back(span(t.n, t.gradient));
    note(std::move(e));
  }
  template <class M>
  static void adamw(const AdamWList<M>& list, const AdamWArgs&) {
    Entry e{"clip + AdamW", Pass::update, 1, {}, {}};
    for (const auto& t : list.tensors) {
      if (t.gradient) e.reads.push_back(span(t.n, t.gradient));
      for (const M* p : {t.m, t.v, t.value}) {
        e.reads.push_back(span(t.n, p));
        e.writes.push_back(span(t.n, p));
      }
      if (t.rounded) e.writes.push_back(span(t.n, t.rounded));
    }
    note(std::move(e));
  }

  // ---- products
  template <class T, class C>
  static void gemm(bool, bool, Index m, Index n, Index k, accumulator_of<T>, const T* a, Index,
                   const T* b, Index, accumulator_of<T> beta, C* c, Index) {
    std::vector<Span> reads{span(m * k, a), span(k * n, b)};
    if (beta != 0) reads.push_back(span(m * n, c));
    note({"product",
          Pass::product,
          1,
          std::move(reads),
          {span(m * n, c)},
          0,
          2 * real(m, n, k),
          std::is_same_v<T, bfloat16>});
  }
  /// As cuBLASLt serves it: the bias within the product, a residual sum where the result is wide,
  /// and tanh-form GELU with what it is applied to.
  template <class T, class Y>
  static bool linear(const LinearArgs<T, Y>& a) {
    if (std::is_same_v<T, double> || !a.bias) return false;
    if (a.residual && std::is_same_v<Y, bfloat16>) return false;
    const bool gelu =
                   a.activation == Activation::gelu_tanh && a.pre && a.out % 8 == 0 && !a.residual,
               plain = a.activation == Activation::identity && !a.pre,
               half = std::is_same_v<Y, bfloat16>;
    if (!half && !gelu && !plain) return false;
    Y* const made = gelu || !a.pre ? a.y : a.pre;
    const Index n = a.rows * a.out;
    Entry e{"product",
            Pass::product,
            half ? 2 : 1,
            {span(a.rows * a.in, a.x), span(a.out * a.in, a.weight), span(a.out, a.bias)},
            {span(n, made)},
            0,
            2 * real(a.rows, a.in, a.out),
            std::is_same_v<T, bfloat16>};
    if (a.residual) e.reads.push_back(span(n, a.residual));
    if (gelu) e.writes.push_back(span(n, a.pre));
    note(std::move(e));
    if (gelu) return true;
    if (a.activation != Activation::identity)
      activation(a.activation, n, made, a.y);
    else if (made != a.y)
      copy(n, made, a.y);
    return true;
  }
  /// For activations other than tanh-form GELU, as the models have them.
  template <class T, class Y>
  static bool linear_backward(const LinearGradients<T, Y>& a) {
    if (std::is_same_v<T, double>) return false;
    const Index ny = a.rows * a.out, nx = a.rows * a.in;
    const auto sum_of = [](Index n, const auto& sum, Entry& e) {
      if (!sum.to) return;
      if (sum.holds) e.reads.push_back(span(n, sum.to));
      e.writes.push_back(span(n, sum.to));
    };
    const T* dy = nullptr;
    if constexpr (std::is_same_v<T, Y>) {
      dy = a.dy;
    } else {  // a pass that rounds and adds up
      dy = static_cast<const T*>(allocate(static_cast<std::size_t>(ny) * sizeof(T)));
      column_pass("convert + column sums", a.rows, a.out, {span(ny, a.dy)}, {span(ny, dy)},
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
      activation(a.activation, nx, a.pre, a.pre);
    }
    const T* x = a.pre ? a.pre : a.x;
    const bool sums = std::is_same_v<T, Y> && a.dbias.to;
    if (a.dweight.to) {
      Entry e{"product",
              Pass::product,
              1,
              {span(ny, dy), span(nx, x)},
              {},
              0,
              2 * real(a.rows, a.in, a.out),
              std::is_same_v<T, bfloat16>};
      sum_of(a.out * a.in, a.dweight, e);
      if (sums) sum_of(a.out, a.dbias, e);
      note(std::move(e));
      if (sums && a.dbias.holds) elements("add", {span(a.out, x)}, {});
    } else if (sums) {
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
          column_scratch(rows, cols, 1, 128)});
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
          cols > longest_held ? 4 * span(n, x).bytes : 0});
    return true;
  }
  template <class X, class G, class D, class A>
  static void layer_norm_backward(Index rows, Index cols, const X* x, const A* gain, const A* mean,
                                  const A* rstd, const G* dy, D* dx, A* dgain, A* dbias) {
    const Index n = rows * cols;
    const bool slopes = dgain || dbias, held = cols <= longest_held;
    const double inputs = span(n, x).bytes + span(n, dy).bytes,
                 partial = 4.0 * std::ceil(static_cast<double>(rows) / 64) * real(cols) * sizeof(A);
    note({"layer_norm_backward",
          Pass::rows,
          held ? (slopes ? 2 : 1) : (slopes ? 2 : 0) + (dx ? 1 : 0),
          {span(n, x), span(n, dy), span(cols, gain), span(rows, mean), span(rows, rstd)},
          {span(dx ? n : 0, dx), span(dgain ? cols : 0, dgain), span(dbias ? cols : 0, dbias)},
          held ? (slopes ? partial : 0)
               : (dx ? inputs : 0) + (slopes && dx ? inputs : 0) +
                     (slopes ? column_scratch(rows, cols, 2) : 0)});
  }

  // ---- losses over classes: the backward passes read their rows twice
  template <class T>
  static void cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target,
                            double, T* loss, T* lse) {
    note({"softmax + loss",
          Pass::loss,
          2,
          {span(rows * classes, z), span(rows, target)},
          {span(1, loss), span(rows, lse)}});
  }
  template <class T>
  static void cross_entropy_backward(Index rows, Index classes, const T* z,
                                     const std::int32_t* target, double, const T* lse, const T*,
                                     bool accumulate, T* dz) {
    loss_backward(rows, classes, {span(rows * classes, z)}, accumulate, dz,
                  {span(rows, target), span(rows, lse)});
  }
  template <class T>
  static void distillation(Index rows, Index classes, const T* student, const T* teacher, double,
                           T* loss, T* lse_s, T* lse_t) {
    const Index n = rows * classes;
    note({"softmax + loss",
          Pass::loss,
          2,
          {span(n, student), span(n, teacher)},
          {span(1, loss), span(rows, lse_s), span(rows, lse_t)}});
  }
  template <class T>
  static void distillation_backward(Index rows, Index classes, const T* student, const T* teacher,
                                    double, const T* lse_s, const T* lse_t, const T*,
                                    bool accumulate, T* dz) {
    loss_backward(rows, classes, {span(rows * classes, student), span(rows * classes, teacher)},
                  accumulate, dz, {span(rows, lse_s), span(rows, lse_t)});
  }
  template <class T>
  static void soft_cross_entropy(Index rows, Index classes, const T* z, const T* target, double,
                                 T* loss, T* lse) {
    const Index n = rows * classes;
    note({"softmax + loss",
          Pass::loss,
          2,
          {span(n, z), span(n, target)},
          {span(1, loss), span(rows, lse)}});
  }
  template <class T>
  static void soft_cross_entropy_backward(Index rows, Index classes, const T* z, const T* target,
                                          double, const T* lse, const T*, bool accumulate, T* dz) {
    loss_backward(rows, classes, {span(rows * classes, z), span(rows * classes, target)},
                  accumulate, dz, {span(rows, lse)});
  }
  template <class T>
  static void symmetric_cross_entropy(Index n, const T* s, const std::int32_t* keys, double, double,
                                      double, T* loss, T* ds) {
    note({"contrast",
          Pass::loss,
          4,
          {span(n * n, s), span(keys ? n : 0, keys)},
          {span(1, loss), span(n * n, ds)},
          2 * span(n * n, s).bytes});
  }
  template <class T>
  static void sinkhorn(Index rows, Index cols, const T* scores, double, Index iterations, T* q) {
    const Index n = rows * cols;
    note({"contrast",
          Pass::loss,
          2 + 2 * static_cast<int>(iterations),
          {span(n, scores)},
          {span(n, q)},
          4 * static_cast<double>(iterations) * span(n, q).bytes});
  }

  // ---- rows
  static void repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                             std::int32_t* y) {
    note({"index", Pass::index, 1, {span(count, first)}, {span(count * repeats, y)}});
    std::vector<std::int32_t> numbers;
    for (Index r = 0; r < repeats; ++r)
      for (Index i = 0; i < count; ++i)
        if (const auto at = kept_int(first, i); at >= 0)
          numbers.push_back(at + static_cast<std::int32_t>(r * period));
    if (!numbers.empty()) copy_from_host(numbers.data(), y, numbers.size() * sizeof(std::int32_t));
  }
  template <class T>
  static void gather_rows(Index rows, Index cols, const T* x, const std::int32_t* index, T* y) {
    note({"gather",
          Pass::index,
          1,
          {span(rows * cols, x), span(rows, index)},
          {span(rows * cols, y)}});
  }
  template <class T>
  static void scatter_add_rows(Index rows, Index cols, const T* dy, const std::int32_t* index,
                               accumulator_of<T>* dx) {
    const Index n = rows * cols;
    note({"scatter",
          Pass::index,
          8,
          {span(n, dy), span(rows, index), span(n, dx)},
          {span(n, dx)},
          16 * span(rows, index).bytes});
  }
  template <class T, class W>
  static void mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                       const std::int32_t* start, const std::int32_t*, const W*, const T* x, T* y) {
    note({"mix_rows",
          Pass::index,
          1,
          {span(batch * inputs * cols, x), span(outputs, start)},
          {span(batch * outputs * cols, y)}});
  }
  template <class T, class A>
  static void normalize_rows(Index rows, Index cols, const T* x, T* y, A* norm) {
    const Index n = rows * cols;
    note({"normalize_rows",
          Pass::rows,
          1,
          {span(n, x)},
          {span(n, y), span(rows, norm)},
          span(n, x).bytes});
  }
  template <class T, class A>
  static void normalize_rows_backward(Index rows, Index cols, const T* y, const A* norm,
                                      const T* dy, T* dx) {
    const Index n = rows * cols;
    note({"normalize_rows",
          Pass::rows,
          1,
          {span(n, y), span(n, dy), span(rows, norm)},
          {span(n, dx)},
          2 * span(n, y).bytes});
  }
  template <class T>
  static void transpose(Index batch, Index rows, Index cols, const T* x, T* y) {
    const Index n = batch * rows * cols;
    note({"transpose", Pass::index, 1, {span(n, x)}, {span(n, y)}});
  }
  template <class T>
  static void patchify(Index batch, Index channels, Index side, Index patch, const T* x, T* y) {
    const Index n = batch * channels * (side / patch) * (side / patch) * patch * patch;
    note({"patchify", Pass::index, 1, {span(n, x)}, {span(n, y)}});
  }

  // ---- attention: a tile of queries reads the keys and values that it sees, a tile of keys the
  // queries that see it
  static constexpr double attention_tile = 64;
  template <class T>
  static void attention(const AttentionArgs<T>& a) {
    const Work w(a);
    Entry e{
        "attention",
        Pass::attention,
        1,
        {span(w.queries * w.width, a.q), span(w.keys * w.width, a.k), span(w.keys * w.width, a.v)},
        {span(w.queries * w.width, a.out), span(w.queries * a.heads, a.lse)},
        w.again(2 * sizeof(T)),
        4 * w.pairs * real(w.width),
        std::is_same_v<T, bfloat16>};
    note(std::move(e));
  }
  template <class T>
  static void attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
    const Work w(a);
    const Index q = w.queries * w.width, k = w.keys * w.width;
    // Three kernels: means of keys and values, gradients of queries, gradients of keys and values.
    // The last two rebuild the scores and their gradients, each for itself.
    const double centres = span(2 * k, a.k).bytes,
                 twice = span(2 * q, a.q).bytes + span(2 * k, a.k).bytes,
                 statistics = 6.0 * real(w.queries, a.heads) * sizeof(accumulator_of<T>);
    note({"attention",
          Pass::attention,
          3,
          {span(q, a.q), span(k, a.k), span(k, a.v), span(q, a.out), span(q, g.dout)},
          {span(q, g.dq), span(k, g.dk), span(k, g.dv)},
          centres + twice + statistics + w.again(2 * sizeof(T)) + w.again_by_keys(2 * sizeof(T)),
          14 * w.pairs * real(w.width),
          std::is_same_v<T, bfloat16>});
  }

  // ---- convolutional networks: products over gathered patches
  template <class T, class A>
  static void column_moments(Index rows, Index cols, const T* x, A* mean, A* var) {
    note({"batch_norm",
          Pass::rows,
          2,
          {span(rows * cols, x)},
          {span(cols, mean), span(cols, var)},
          span(rows * cols, x).bytes + column_scratch(rows, cols, 3)});
  }
  template <class T, class A>
  static void batch_norm(Index rows, Index cols, const T* x, const A* mean, const A*, const A*,
                         const A*, T* y) {
    elements("batch_norm", {span(rows * cols, x), span(4 * cols, mean)}, {span(rows * cols, y)});
  }
  template <class T, class A>
  static void batch_norm_backward(Index rows, Index cols, const T* x, const A* mean, const A*,
                                  const A*, const T* dy, bool, T* dx, A* dgain, A* dbias) {
    const Index n = rows * cols;
    note({"batch_norm",
          Pass::rows,
          3,
          {span(n, x), span(n, dy), span(3 * cols, mean)},
          {span(n, dx), span(cols, dgain), span(cols, dbias)},
          2 * span(n, x).bytes + column_scratch(rows, cols, 2)});
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
  static void max_pool_backward(Index n, const T* dy, const std::int32_t* where, T* dx) {
    note({"max_pool",
          Pass::index,
          8,
          {span(n, dy), span(n, where), span(n, dx)},
          {span(n, dx)},
          16 * span(n, where).bytes});
  }

  // ---- objectives: what their tiles hold in scratch memory is moved again
  template <class T>
  static void local_scores(const LocalArgs<T>& a, T* z) {
    local(a, {span(a.images * a.texts, z)}, false);
  }
  template <class T>
  static void local_scores_backward(const LocalArgs<T>& a, const T* dz, T* dp, T* dw) {
    local(a,
          {span(a.images * a.regions * a.dim, dp),
           span(static_cast<Index>(a.offsets[a.texts]) * a.dim, dw)},
          true, {span(a.images * a.texts, dz)});
  }
  template <class T>
  static void token_alignment(const TokenArgs<T>& a, T* loss) {
    tokens(a, {span(1, loss)}, 3);
  }
  template <class T>
  static void token_alignment_backward(const TokenArgs<T>& a, const T*, T* dp, T* dw) {
    tokens(a,
           {span(a.samples * a.regions * a.dim, dp),
            span(static_cast<Index>(a.offsets[a.samples]) * a.dim, dw)},
           5);
  }

 private:
  static constexpr Index longest_held = 1024;

  template <class T>
  static Span span(Index n, const T* p) {
    return {reinterpret_cast<std::uintptr_t>(p), static_cast<double>(n) * sizeof(T)};
  }
  template <class... I>
  static double real(I... n) {
    return (static_cast<double>(n) * ...);
  }
  static void note(Entry e) { ledger.add(std::move(e)); }
  static void elements(std::string_view kind, std::vector<Span> reads, std::vector<Span> writes) {
    note({kind, Pass::elements, 1, std::move(reads), std::move(writes)});
  }
  /// Partial sums of columns over a tile of rows, written and read in double.
  static double column_scratch(Index rows, Index cols, int values, int tile = 256) {
    return 16.0 * std::ceil(static_cast<double>(rows) / tile) * real(cols) * values;
  }
  /// One pass that adds up columns on the way.
  template <class Sum>
  static void column_pass(std::string_view kind, Index rows, Index cols, std::vector<Span> reads,
                          std::vector<Span> writes, const Sum& sum) {
    Entry e{kind, Pass::rows, sum.to ? 2 : 1, std::move(reads), std::move(writes)};
    if (sum.to) {
      e.again = column_scratch(rows, cols, 1, 128);
      if (sum.holds) e.reads.push_back(span(cols, sum.to));
      e.writes.push_back(span(cols, sum.to));
    }
    note(std::move(e));
  }
  template <class T>
  static void loss_backward(Index rows, Index classes, std::vector<Span> logits, bool accumulate,
                            T* dz, std::vector<Span> also) {
    double again = 0;
    for (const Span& s : logits) again += s.bytes;
    for (const Span& s : also) logits.push_back(s);
    if (accumulate) logits.push_back(span(rows * classes, dz));
    note({"softmax + loss", Pass::loss, 1, std::move(logits), {span(rows * classes, dz)}, again});
  }

  /// Rows and pairs of an attention.
  struct Work {
    Index queries = 0, keys = 0, width = 0;
    double pairs = 0, tiles_times_keys = 0, tiles_times_queries = 0;

    template <class T>
    explicit Work(const AttentionArgs<T>& a) : width(a.heads * a.head_dim) {
      for (Index s = 0; s < a.segments; ++s) {
        const Index q = kept_int(a.q_ranges, 2 * s + 1) - kept_int(a.q_ranges, 2 * s),
                    k = kept_int(a.k_ranges, 2 * s + 1) - kept_int(a.k_ranges, 2 * s);
        queries += q;
        keys += k;
        const double seen = a.causal ? 0.5 : 1;
        pairs += seen * real(q, k);
        tiles_times_keys += seen * std::ceil(real(q) / attention_tile) * real(k);
        tiles_times_queries += seen * std::ceil(real(k) / attention_tile) * real(q);
      }
    }
    /// Bytes of keys (and values) that are read more often than once.
    double again(double bytes) const {
      return (std::max)(0.0, tiles_times_keys - real(keys)) * real(width) * bytes;
    }
    double again_by_keys(double bytes) const {
      return (std::max)(0.0, tiles_times_queries - real(queries)) * real(width) * bytes;
    }
  };

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
          2 * real(places(s), taps, s.out),
          std::is_same_v<T, bfloat16>});
  }

  template <class T>
  static void local(const LocalArgs<T>& a, std::vector<Span> results, bool backward,
                    std::vector<Span> also = {}) {
    const Index words = a.offsets[a.texts];
    const double cell = real(a.images, a.regions, words) * sizeof(T);
    also.push_back(span(a.images * a.regions * a.dim, a.p));
    also.push_back(span(words * a.dim, a.w));
    const double products = real(a.images, a.regions, words) * (real(a.dim) + real(a.regions));
    note({"local alignment", Pass::loss, backward ? 14 : 7, std::move(also), std::move(results),
          (backward ? 20 : 9) * cell, 2 * products * (backward ? 4 : 1)});
  }
  template <class T>
  static void tokens(const TokenArgs<T>& a, std::vector<Span> results, int matrices) {
    double cells = 0;
    for (Index s = 0; s < a.samples; ++s) cells += 2 * real(a.regions, a.words(s));
    const Index words = a.offsets[a.samples];
    note({"token alignment",
          Pass::loss,
          20,
          {span(a.samples * a.regions * a.dim, a.p), span(words * a.dim, a.w)},
          std::move(results),
          4 * matrices * cells * sizeof(T),
          8 * cells * real(a.dim)});
  }

  /// A number that the host has put there; 0 where it has not.
  static std::int32_t kept_int(const std::int32_t* p, Index i) {
    const auto at = reinterpret_cast<std::uintptr_t>(p + i);
    auto it = kept_.upper_bound(at);
    if (it == kept_.begin()) return 0;
    --it;
    const std::size_t offset = at - it->first;
    std::int32_t x = 0;
    if (offset + sizeof x > it->second.size()) return 0;
    std::memcpy(&x, it->second.data() + offset, sizeof x);
    return x;
  }

  static inline std::uintptr_t next_ = std::uintptr_t{1} << 40;
  static inline std::map<std::uintptr_t, std::vector<std::byte>> kept_;
};

}  // namespace hybridmed::roofline
