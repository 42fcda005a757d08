#pragma once
// The recorder's kernels of losses: over classes, between images and texts.
#include <algorithm>

#include "notes.hpp"

namespace hybridmed::roofline {

struct Losses {
  // ---- over classes: each row's loss is a double, then added up; gradients that are not given the
  // largest logit of a row read it twice
  template <class T>
  static void cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target,
                            double, T* loss, T* lse, T* top = nullptr) {
    over_classes(rows, {span(rows * classes, z), span(rows, target)},
                 {span(1, loss), span(rows, lse), span(top ? rows : 0, top)});
  }
  template <class T>
  static void cross_entropy_backward(Index rows, Index classes, const T* z,
                                     const std::int32_t* target, double, const T* lse,
                                     const T* upstream, bool accumulate, T* dz,
                                     const T* top = nullptr) {
    backward(rows * classes, {span(rows * classes, z)}, accumulate, dz,
             {span(rows, target), span(rows, lse), span(1, upstream), span(top ? rows : 0, top)},
             top);
  }
  template <class T>
  static void distillation(Index rows, Index classes, const T* student, const T* teacher, double,
                           T* loss, T* lse_s, T* lse_t, T* top_s = nullptr, T* top_t = nullptr) {
    over_classes(rows, {span(rows * classes, student), span(rows * classes, teacher)},
                 {span(1, loss), span(rows, lse_s), span(rows, lse_t),
                  span(top_s ? rows : 0, top_s), span(top_s ? rows : 0, top_t)});
  }
  template <class T>
  static void distillation_backward(Index rows, Index classes, const T* student, const T* teacher,
                                    double, const T* lse_s, const T* lse_t, const T* upstream,
                                    bool accumulate, T* dz, const T* top_s = nullptr,
                                    const T* top_t = nullptr) {
    const Index n = rows * classes;
    backward(n, {span(n, student), span(n, teacher)}, accumulate, dz,
             {span(rows, lse_s), span(rows, lse_t), span(1, upstream),
              span(top_s ? rows : 0, top_s), span(top_s ? rows : 0, top_t)},
             top_s);
  }
  template <class T>
  static void soft_cross_entropy(Index rows, Index classes, const T* z, const T* target, double,
                                 T* loss, T* lse) {
    over_classes(rows, {span(rows * classes, z), span(rows * classes, target)},
                 {span(1, loss), span(rows, lse)});
  }
  template <class T>
  static void soft_cross_entropy_backward(Index rows, Index classes, const T* z, const T* target,
                                          double, const T* lse, const T* upstream, bool accumulate,
                                          T* dz) {
    const Index n = rows * classes;
    backward(n, {span(n, z), span(n, target)}, accumulate, dz, {span(rows, lse), span(1, upstream)},
             false);
  }

  // ---- between images and texts
  /// Sums of columns, then rows and gradient, then the loss.
  template <class T>
  static void symmetric_cross_entropy(Index n, const T* s, const std::int32_t* keys, double, double,
                                      double, T* loss, T* ds) {
    const double columns = 2 * real(n) * sizeof(double), row_loss = real(n) * sizeof(double);
    note({"contrast",
          Pass::loss,
          3,
          {span(n * n, s), span(keys ? n : 0, keys)},
          {span(1, loss), span(n * n, ds)},
          2 * (columns + row_loss),
          span(n * n, s).bytes,
          span(n * n, s).bytes});
  }
  template <class T>
  static void sinkhorn(Index rows, Index cols, const T* scores, double, Index iterations, T* q) {
    const Index n = rows * cols;
    const auto passes = static_cast<double>(2 * iterations);
    note({"contrast",
          Pass::loss,
          1 + 2 * static_cast<int>(iterations),
          {span(n, scores)},
          {span(n, q)},
          2 * static_cast<double>(iterations) * real(rows + cols) * sizeof(double),
          passes * span(n, q).bytes + real(rows + cols) * sizeof(double)});
  }
  /// What their tiles hold in scratch memory is moved again.
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
  static void over_classes(Index rows, std::vector<Span> reads, std::vector<Span> writes) {
    note({"softmax + loss", Pass::loss, 2, std::move(reads), std::move(writes),
          2 * real(rows) * sizeof(double)});
  }
  template <class T>
  static void backward(Index n, std::vector<Span> logits, bool accumulate, T* dz,
                       std::vector<Span> also, bool once) {
    double again = 0;
    for (const Span& s : logits) again += once ? 0 : s.bytes;
    for (const Span& s : also) logits.push_back(s);
    if (accumulate) logits.push_back(span(n, dz));
    note({"softmax + loss", Pass::loss, 1, std::move(logits), {span(n, dz)}, 0, 0, again});
  }

  template <class T>
  static void local(const LocalArgs<T>& a, std::vector<Span> results, bool backward,
                    std::vector<Span> also = {}) {
    const Index words = a.offsets[a.texts];
    const double cells = real(a.images, a.regions, words), cell = cells * sizeof(T);
    also.push_back(span(a.images * a.regions * a.dim, a.p));
    also.push_back(span(words * a.dim, a.w));
    if (a.half_products) return half_local(a, std::move(results), backward, std::move(also));
    const double products = cells * (real(a.dim) + real(a.regions));
    note({"local alignment", Pass::loss, backward ? 14 : 7, std::move(also), std::move(results),
          (backward ? 20 : 9) * cell, 0, 0, 2 * products * (backward ? 4 : 1), false, true});
  }
  /// On tensor cores: matrices of (images, regions, words) are in bf16. A tile reads its rows of p,
  /// of w and of the Gram matrices once a kernel (blocks find them in the cache), and adds to their
  /// gradients.
  template <class T>
  static void half_local(const LocalArgs<T>& a, std::vector<Span> results, bool backward,
                         std::vector<Span> inputs) {
    constexpr double tile = 1 << 23, half = sizeof(bfloat16), single = sizeof(float);
    const double words = real(a.offsets[a.texts]), rows = real(a.images, a.regions),
                 cells = rows * words, dim = real(a.dim), regions = real(a.regions), p = rows * dim,
                 w = words * dim, gram = rows * regions,
                 runs = std::ceil(words / std::min(words, std::sqrt(tile))),
                 groups = std::ceil(cells / runs / tile), tiles = runs * groups;
    // Rounded rows and Gram matrices are made; weights are written and read; numbers of each image
    // and word.
    double moved = half * (p + w) + single * 2 * gram + half * 2 * gram +
                   half * (runs * (p + 2 * gram) + groups * w + 2 * cells) +
                   2 * 8 * real(a.images) * words;
    double flops = 2 * gram * dim + 2 * cells * (dim + 2 * regions);
    int launches = 4 + static_cast<int>(3 * tiles);
    if (backward) {
      // Weights twice, gradients of scores three times, scaled weights twice, weights in a product.
      moved += half * (runs * (2 * p + 2 * gram) + groups * 2 * w + 7 * cells);
      moved += single * 2 * (runs * (p + gram) + (groups + 1) * w);  // sums over tiles
      moved += half * p + (single + 2 * half) * gram + 6 * 8 * real(a.images) * words;
      flops += 2 * cells * (dim + 2 * regions) + 2 * cells * (2 * dim + regions) + 2 * gram * dim;
      launches += static_cast<int>(5 * tiles + 3 * groups);
    }
    note({"local alignment", Pass::loss, launches, std::move(inputs), std::move(results), moved, 0,
          0, flops, true, true});
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
          0,
          0,
          8 * cells * real(a.dim),
          false,
          true});
  }
};

}  // namespace hybridmed::roofline
