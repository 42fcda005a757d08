#pragma once
// Differentiable operations on rows: gather, slice, concatenate, resample, normalise.
#include <vector>

#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/backend/concept.hpp"

namespace hybridmed {

/// y_r = x_{index_r}; a negative index gives zeros. x (n, cols), index (rows) -> (rows, cols).
/// Embedding look-up, permutations (windows, shifts), selections: all are this.
template <Value V>
V gather_rows(const V& x, const IndexTensor<backend_of<V>>& index) {
  static_assert(BackendRows<backend_of<V>, scalar_of<V>>,
                "hybridmed: this backend picks and mixes no rows for this scalar; see "
                "docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("gather_rows", x);
  detail::need_indices<B>("gather_rows", "index", index, value(x).rows(), true);
  const Index rows = index.size(), cols = value(x).cols();
  tensor_of<V> y({rows, cols});
  B::gather_rows(rows, cols, value(x).data(), index.data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(
          std::move(y), [s = x.slot, shape = x.shape(), index, rows, cols](tensor_of<V> dy) {
            B::scatter_add_rows(rows, cols, dy.data(), index.data(), s->accumulator(shape).data());
          });
  return y;
}

/// Never chosen for a value: says how a parameter is read.
template <class T, class B>
void gather_rows(const RoundedWeight<T, B>&, const IndexTensor<B>&) {
  detail::need_one_kind<Variable<T, B>, RoundedWeight<T, B>>();
}

/// Rows [begin, end), without a copy in the forward pass.
template <Value V>
V slice_rows(const V& x, Index begin, Index end) {
  using B = backend_of<V>;
  detail::need_defined("slice_rows", x);
  if (begin == 0 && end == value(x).rows()) return x;
  tensor_of<V> y = value(x).row_slice(begin, end);
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [s = x.slot, shape = x.shape(), begin](tensor_of<V> dy) {
        using A = accumulator_of<scalar_of<V>>;
        const Index first = begin * shape.cols(), n = dy.size();
        if constexpr (std::is_same_v<scalar_of<V>, A>)
          if (!s->defined()) {  // nothing to add to: a copy, and zeros around it
            tensor_of<V> dx(shape);
            const Index end = first + n, rest = dx.size() - end;
            if (first > 0) B::fill(first, A(0), dx.data());
            B::copy(n, dy.data(), dx.data() + first);
            if (rest > 0) B::fill(rest, A(0), dx.data() + end);
            return s->add(std::move(dx));
          }
        B::axpy(n, A(1), dy.data(), s->accumulator(shape).data() + first);
      });
  return y;
}

/// a above b: (n, cols), (m, cols) -> (n + m, cols).
template <Value V>
V stack_rows(const V& a, const V& b) {
  using B = backend_of<V>;
  detail::need_defined("stack_rows", a, b);
  if (value(a).cols() != value(b).cols())
    fail("autograd", "stack_rows",
         "expected equal widths, got " + value(a).shape().str() + " and " + value(b).shape().str());
  if (value(b).rows() == 0) return a;
  if (value(a).rows() == 0) return b;
  const Index n = value(a).rows(), m = value(b).rows(), cols = value(a).cols();
  tensor_of<V> y({n + m, cols});
  B::copy(n * cols, value(a).data(), y.data());
  B::copy(m * cols, value(b).data(), y.data() + n * cols);
  if constexpr (is_recorded<V>)
    if (recording(a, b))
      return recorded(std::move(y), [sa = a.slot, sb = b.slot, n, m](tensor_of<V> dy) {
        if (sa) sa->add(dy.row_slice(0, n));
        if (sb) sb->add(dy.row_slice(n, n + m));
      });
  return y;
}

/// x + v on every row. x (rows, cols), v (cols).
template <Value V>
V add_row_vector(const V& x, const Wide<V>& v) {
  using B = backend_of<V>;
  detail::need_defined("add_row_vector", x, v);
  const Index rows = value(x).rows(), cols = value(x).cols();
  if (value(v).size() != cols)
    fail("autograd", "add_row_vector",
         "expected a vector of " + std::to_string(cols) + ", got " + value(v).shape().str());
  tensor_of<V> y({rows, cols});
  B::add_vector(rows, cols, value(x).data(), value(v).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x, v))
      return recorded(std::move(y),
                      [sx = x.slot, sv = v.slot, shape = v.shape(), rows, cols](tensor_of<V> dy) {
                        if (sv) B::column_sum(rows, cols, dy.data(), sv->accumulator(shape).data());
                        if (sx) sx->add(std::move(dy));
                      });
  return y;
}

/// The same elements under another shape of equal size.
template <Value V>
V reshape(const V& x, const Shape& shape) {
  detail::need_defined("reshape", x);
  tensor_of<V> y = value(x).view(shape);
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y),
                      [s = x.slot, old = x.shape()](tensor_of<V> dy) { s->add(dy.view(old)); });
  return y;
}

/// Of a weight: its gradient arrives in the shape of the parameter, unrounded.
template <class T, class B>
RoundedWeight<T, B> reshape(const RoundedWeight<T, B>& w, const Shape& shape) {
  Tensor<T, B> y = w.tensor.view(shape);
  if (!recording(w)) return {std::move(y)};
  using Gradient = Tensor<master_of<T>, B>;
  auto* const slot = Tape::current()->template record<master_of<T>, B>(
      [s = w.slot, old = w.shape()](Gradient dw) { s->add(dw.view(old)); });
  return {std::move(y), slot, Tape::current()->recording()};
}

/// A fixed linear map between the rows of every batch item (pooling, interpolation), in compressed
/// rows, with its transpose. Its weights are of the scalar that sums are held in.
template <class T, class B>
struct RowMixing {
  using A = accumulator_of<T>;
  struct Compressed {
    IndexTensor<B> start, column;
    Tensor<A, B> weight;
  };
  Index outputs = 0, inputs = 0;
  Compressed forward, transposed;

  RowMixing() = default;
  /// dense: (outputs, inputs), row-major.
  RowMixing(Index outputs_, Index inputs_, const std::vector<double>& dense)
      : outputs(outputs_), inputs(inputs_) {
    if (outputs < 0 || inputs < 0 || static_cast<Index>(dense.size()) != outputs * inputs)
      fail("autograd", "RowMixing",
           "expected " + std::to_string(outputs) + " x " + std::to_string(inputs) +
               " weights, got " + std::to_string(dense.size()));
    const auto weight = [&](Index o, Index i) {
      return dense[static_cast<std::size_t>(o * inputs + i)];
    };
    forward = compress(outputs, [&](Index o, auto&& entry) {
      for (Index i = 0; i < inputs; ++i) entry(i, weight(o, i));
    });
    transposed = compress(inputs, [&](Index i, auto&& entry) {
      for (Index o = 0; o < outputs; ++o) entry(o, weight(o, i));
    });
  }
  /// The map of squares, (side_out * side_out, side_in * side_in), that does the same along both
  /// sides. axis: (side_out, side_in), row-major; the product of the two is never held.
  static RowMixing of_squares(Index side_out, Index side_in, const std::vector<double>& axis) {
    const RowMixing one(side_out, side_in, axis);  // for its check
    const auto entries_of = [](Index rows, Index cols, auto&& at) {
      std::vector<std::vector<std::pair<Index, double>>> all(static_cast<std::size_t>(rows));
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < cols; ++c)
          if (at(r, c) != 0) all[static_cast<std::size_t>(r)].emplace_back(c, at(r, c));
      return all;
    };
    const auto at = [&](Index o, Index i) {
      return axis[static_cast<std::size_t>(o * side_in + i)];
    };
    const auto square = [](const auto& along, Index side, Index other) {
      return compress(side * side, [&](Index r, auto&& entry) {
        for (const auto& [i, a] : along[static_cast<std::size_t>(r / side)])
          for (const auto& [j, b] : along[static_cast<std::size_t>(r % side)])
            entry(i * other + j, a * b);
      });
    };
    RowMixing m;
    m.outputs = side_out * side_out;
    m.inputs = side_in * side_in;
    m.forward = square(entries_of(side_out, side_in, at), side_out, side_in);
    m.transposed = square(entries_of(side_in, side_out, [&](Index i, Index o) { return at(o, i); }),
                          side_in, side_out);
    return m;
  }

 private:
  /// each(row, entry) calls entry(column, weight) in ascending order of columns.
  template <class F>
  static Compressed compress(Index rows, F&& each) {
    std::vector<std::int32_t> start{0}, column;
    std::vector<A> weight;
    for (Index r = 0; r < rows; ++r) {
      each(r, [&](Index c, double w) {
        if (w == 0) return;
        column.push_back(static_cast<std::int32_t>(c));
        weight.push_back(static_cast<A>(w));
      });
      start.push_back(static_cast<std::int32_t>(column.size()));
    }
    const auto n = static_cast<Index>(column.size());
    return {IndexTensor<B>::from_host(start, {rows + 1}), IndexTensor<B>::from_host(column, {n}),
            Tensor<A, B>::from_host(weight, {n})};
  }
};

/// Applies a RowMixing to every batch item: x (batch * inputs, cols) -> (batch * outputs, cols).
template <Value V>
V mix_rows(const V& x, const RowMixing<scalar_of<V>, backend_of<V>>& m) {
  static_assert(BackendRows<backend_of<V>, scalar_of<V>>,
                "hybridmed: this backend picks and mixes no rows for this scalar; see "
                "docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("mix_rows", x);
  if (m.inputs == 0 || value(x).rows() % m.inputs != 0)
    fail("autograd", "mix_rows",
         "expected a multiple of " + std::to_string(m.inputs) + " rows, got " +
             value(x).shape().str());
  const Index cols = value(x).cols(), batch = value(x).rows() / m.inputs;
  tensor_of<V> y({batch * m.outputs, cols});
  B::mix_rows(batch, m.outputs, m.inputs, cols, m.forward.start.data(), m.forward.column.data(),
              m.forward.weight.data(), value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [s = x.slot, shape = x.shape(), m, batch,
                                     cols](tensor_of<V> dy) {
        tensor_of<V> dx(shape);
        B::mix_rows(batch, m.inputs, m.outputs, cols, m.transposed.start.data(),
                    m.transposed.column.data(), m.transposed.weight.data(), dy.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}

/// Each row divided by max(its length, 1e-12).
template <Value V>
V normalize_rows(const V& x) {
  static_assert(BackendRows<backend_of<V>, scalar_of<V>>,
                "hybridmed: this backend picks and mixes no rows for this scalar; see "
                "docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("normalize_rows", x);
  const Index rows = value(x).rows(), cols = value(x).cols();
  tensor_of<V> y({rows, cols});
  tensor_of<Wide<V>> norm({rows});
  B::normalize_rows(rows, cols, value(x).data(), y.data(), norm.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(y, [s = x.slot, y, norm, rows, cols](tensor_of<V> dy) {
        tensor_of<V> dx({rows, cols});
        B::normalize_rows_backward(rows, cols, y.data(), norm.data(), dy.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}

}  // namespace hybridmed
