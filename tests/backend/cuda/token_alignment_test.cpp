// The CUDA kernels of the token-wise contrast against the reference backend, as one tile and as
// many.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

struct Case {
  const char* name;
  Index regions, dim;
  std::vector<Index> words;  // of each sample
};

const Case cases[] = {
    {"one of each", 1, 1, {1}},
    {"texts of one word", 5, 17, {1, 1, 1}},
    {"very different lengths", 17, 9, {1, 197, 3, 65, 1}},
    {"many regions", 197, 33, {17, 1, 3}},
    {"one region", 1, 7, {3, 17}},
    {"whole blocks", 64, 16, {64, 128}},
    {"no samples", 5, 3, {}},
};

/// The arguments of a case for the tensors that a backend was given.
struct Arguments {
  Case c;
  std::vector<std::int32_t> offsets{0};
  explicit Arguments(const Case& of) : c(of) {
    for (Index n : c.words) offsets.push_back(static_cast<std::int32_t>(offsets.back() + n));
  }
  Index words() const { return offsets.back(); }
  Index samples() const { return static_cast<Index>(c.words.size()); }
  Index rows() const { return samples() * c.regions; }
  /// p, w, weights of regions and of words, and the gradient of the loss.
  std::vector<Values> inputs() const {
    return {unit_rows(rows(), 1),
            unit_rows(words(), 2),
            positive(rows(), 3),
            positive(words(), 4),
            {-1.7}};
  }
  template <class T, class B>
  TokenArgs<T> of(const std::vector<Tensor<T, B>>& x, bool weighted) const {
    TokenArgs<T> a;
    a.samples = samples();
    a.regions = c.regions;
    a.dim = c.dim;
    a.p = x[0].data();
    a.w = x[1].data();
    a.offsets = offsets.data();
    if (weighted) {
      a.region_weights = x[2].data();
      a.word_weights = x[3].data();
    }
    return a;
  }

 private:
  Values unit_rows(Index n, std::uint64_t seed) const {
    Values x = normal(n * c.dim, seed), norm(static_cast<std::size_t>(n) + 1);
    if (n > 0) Reference::normalize_rows(n, c.dim, Values(x).data(), x.data(), norm.data());
    return x;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("token_alignment and its gradients, in tiles of any size", T, float, double) {
  for (const Case& c : cases)
    for (bool weighted : {false, true}) {
      const Arguments given(c);
      for (Index tile : {Index{0}, cuda::TokenAlignment::tile}) {  // with 0 each sample is a tile
        if (tile == 0 && (weighted || c.words.size() < 2)) continue;
        conform<T>(c.name, given.inputs(), {}, {garbage(1)}, [&](auto k, auto& x, auto, auto& y) {
          const auto a = given.of(x, weighted);
          if constexpr (std::is_same_v<decltype(k), Cuda>)
            k.token_alignment(a, y[0].data(), tile);
          else
            k.token_alignment(a, y[0].data());
        });
        for (int wanted : weighted ? std::vector<int>{3} : std::vector<int>{3, 1, 2, 0})
          conform<T>(c.name, given.inputs(), {},
                     {normal(given.rows() * c.dim, 5), normal(given.words() * c.dim, 6)},
                     [&](auto k, auto& x, auto, auto& y) {
                       const auto a = given.of(x, weighted);
                       T *dp = wanted & 1 ? y[0].data() : nullptr,
                         *dw = wanted & 2 ? y[1].data() : nullptr;
                       if constexpr (std::is_same_v<decltype(k), Cuda>)
                         k.token_alignment_backward(a, x[4].data(), dp, dw, tile);
                       else
                         k.token_alignment_backward(a, x[4].data(), dp, dw);
                     });
      }
    }
}

TEST_CASE_TEMPLATE("token_alignment: rows of zeros are no direction, and NaN comes out", T, float,
                   double) {
  const Arguments given({"", 3, 4, {2, 5}});
  for (double x0 : {0.0, std::nan("")}) {
    auto in = given.inputs();
    for (int i = 0; i < 4; ++i) in[0][static_cast<std::size_t>(i)] = x0;
    const auto run = [&]<class B>(B k) {
      std::vector<Tensor<T, B>> x;
      for (const Values& v : in) x.push_back(tensor<T, B>(v, {static_cast<Index>(v.size())}));
      const Tensor<T, B> loss(Shape{}), dp = Tensor<T, B>::zeros({24}),
                                        dw = Tensor<T, B>::zeros({28});
      const auto a = given.of(x, false);
      k.token_alignment(a, loss.data());
      k.token_alignment_backward(a, x[4].data(), dp.data(), dw.data());
      Values all = values(loss);
      for (const auto* g : {&dp, &dw})
        for (double v : values(*g)) all.push_back(v);
      return all;
    };
    const Values want = run(Reference{}), got = run(Cuda{});
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      CHECK(std::isnan(got[i]) == std::isnan(want[i]));
      if (!std::isnan(want[i])) CHECK(std::abs(got[i] - want[i]) <= tolerance<T> * 10);
    }
  }
}

TEST_CASE_TEMPLATE("token_alignment takes no more scratch memory than its limit", T, float,
                   double) {
  std::vector<std::int32_t> offsets{0};
  for (Index s = 0; s < 4096; ++s) offsets.push_back(static_cast<std::int32_t>(100 * (s + 1)));
  TokenArgs<T> a;
  a.regions = 196;
  a.dim = 512;
  a.offsets = offsets.data();
  std::size_t before = 0;
  for (Index samples : {1, 16, 4096}) {
    a.samples = samples;
    const std::size_t bytes = Cuda::token_alignment_scratch(a, true);
    CHECK(bytes > before);
    CHECK(Cuda::token_alignment_scratch(a, false) < bytes);
    before = bytes;
  }
  CHECK(before <= 6 * sizeof(T) * std::size_t{cuda::TokenAlignment::tile});
}
