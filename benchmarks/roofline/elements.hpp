#pragma once
// The recorder's kernels element by element, its sums over whole arrays, and the update.
#include <algorithm>
#include <span>

#include "notes.hpp"

namespace hybridmed::roofline {

struct Elements {
  template <class T>
  static void fill(Index n, T, T* y) {
    elements("fill", {}, {span(n, y)});
  }
  template <class T>
  static void copy(Index n, const T* x, T* y) {
    note({"copy", Pass::elements, 1, {span(n, x)}, {span(n, y)}, 0, 0, 0, 0, false, true});
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
    sum_of_all("dot", Pass::rows, n, {span(n, a), span(n, b)}, span(1, y));
  }
  template <class T, class Y>
  static void sum(Index n, double, const T* x, Y* y) {
    sum_of_all("sum", Pass::rows, n, {span(n, x)}, span(1, y));
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
    sum_of_all("clip + AdamW", Pass::update, n, {span(n, x)}, span(1, sum));
  }
  template <class T>
  static void adamw(Index n, const AdamWArgs&, const T* g, T* m, T* v, T* p) {
    note({"clip + AdamW",
          Pass::update,
          1,
          {span(g ? n : 0, g), span(n, m), span(n, v), span(n, p)},
          {span(n, m), span(n, v), span(n, p)}});
  }

  /// Norm and update of all parameters: three launches, which find the tensors in a table.
  template <class M>
  struct AdamWList {
    std::vector<AdamWTensor<M>> tensors;
    void assign(std::span<const AdamWTensor<M>> all) { tensors.assign(all.begin(), all.end()); }
  };
  template <class M>
  static void gradient_norm(const AdamWList<M>& list, const M* loss, StepState* state) {
    const Span norm{reinterpret_cast<std::uintptr_t>(&state->squared_norm), sizeof(double)};
    Entry e{
        "clip + AdamW", Pass::update, 2, {span(loss ? 1 : 0, loss), norm, table(list, 24)}, {norm}};
    Index chunks = 0;
    for (const auto& t : list.tensors) {
      chunks += (t.n + chunk - 1) / chunk;
      if (t.gradient) e.reads.push_back(span(t.n, t.gradient));
    }
    e.scratch = partial_sums((std::min)(chunks, most_partial_sums / 2), 1, 1);
    note(std::move(e));
  }
  template <class M>
  static void adamw(const AdamWList<M>& list, const AdamWArgs& a) {
    const Span numbers{reinterpret_cast<std::uintptr_t>(a.step), 5 * sizeof(double)};
    Entry e{"clip + AdamW", Pass::update, 1, {numbers, table(list, 64)}, {}};
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

 private:
  static constexpr Index most_partial_sums = 1024,  // as in device.cuh
      chunk = 8192;                                 // as in update.cu

  /// Where the tensors lie: bytes of each that a kernel reads.
  template <class M>
  static Span table(const AdamWList<M>& list, double bytes) {
    return {reinterpret_cast<std::uintptr_t>(&list) + static_cast<std::uintptr_t>(bytes),
            bytes * real(list.tensors.size())};
  }
  /// Two launches: partial sums of each block's share, their sum.
  static void sum_of_all(std::string_view kind, Pass pass, Index n, std::vector<Span> reads,
                         Span result) {
    reads.push_back(result);
    const Index blocks = (std::min)((n + 1023) / 1024, most_partial_sums);
    note({kind, pass, 2, std::move(reads), {result}, partial_sums(blocks, 1, 1)});
  }
};

}  // namespace hybridmed::roofline
