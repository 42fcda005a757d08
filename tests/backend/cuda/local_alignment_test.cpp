// The CUDA kernels of local alignment against the reference backend, as one tile and as many.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

struct Case {
  const char* name;
  Index images, regions, dim;
  std::vector<Index> words;  // of each text
};

const Case cases[] = {
    {"one of each", 1, 1, 1, {1}},
    {"texts of one word", 3, 5, 17, {1, 1, 1}},
    {"very different lengths", 2, 17, 9, {1, 197, 3, 65, 1}},
    {"more words than a block", 3, 9, 5, {65, 197, 1, 300, 17, 197, 3}},
    {"a text longer than a block", 2, 5, 3, {3, 600, 1}},
    {"many regions", 2, 197, 33, {17, 1, 3}},
    {"no images", 0, 5, 3, {3, 1}},
    {"no texts", 3, 5, 3, {}},
    {"no regions", 2, 0, 3, {3, 1}},
    {"one region", 3, 1, 7, {3, 17}},
};
constexpr LocalAggregation aggregations[] = {LocalAggregation::mean, LocalAggregation::sum,
                                             LocalAggregation::max};

/// The arguments of a case for the tensors that a backend was given.
struct Arguments {
  Case c;
  std::vector<std::int32_t> offsets{0};
  explicit Arguments(const Case& of) : c(of) {
    for (Index n : c.words) offsets.push_back(static_cast<std::int32_t>(offsets.back() + n));
  }
  Index words() const { return offsets.back(); }
  Index texts() const { return static_cast<Index>(c.words.size()); }
  Index rows() const { return c.images * c.regions; }
  /// p, w and dz.
  std::vector<Values> inputs() const {
    const double size = 1 / std::sqrt(static_cast<double>(c.dim)) + 0.3;
    return {normal(rows() * c.dim, 1, size), normal(words() * c.dim, 2, size),
            normal(c.images * texts(), 3)};
  }
  template <class T, class B>
  LocalArgs<T> of(const std::vector<Tensor<T, B>>& x, LocalAggregation aggregation) const {
    LocalArgs<T> a;
    a.images = c.images;
    a.regions = c.regions;
    a.texts = texts();
    a.dim = c.dim;
    a.p = x[0].data();
    a.w = x[1].data();
    a.offsets = offsets.data();
    a.aggregation = aggregation;
    return a;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("local_scores and their gradients, in tiles of any size", T, float, double) {
  for (const Case& c : cases)
    for (LocalAggregation aggregation : aggregations) {
      const Arguments given(c);
      for (Index tile : {Index{0}, 4 * c.regions * 512, cuda::LocalAlignment::tile}) {
        // With `tile` 0 each image is a tile. Only the longest cases differ by it.
        if (tile > 0 && tile < cuda::LocalAlignment::tile && c.images < 3) continue;
        conform<T>(c.name, given.inputs(), {}, {garbage(c.images * given.texts())},
                   [&](auto k, auto& x, auto, auto& y) {
                     const auto a = given.of(x, aggregation);
                     if constexpr (std::is_same_v<decltype(k), Cuda>)
                       k.local_scores(a, y[0].data(), tile);
                     else
                       k.local_scores(a, y[0].data());
                   });
        for (int wanted : aggregation == LocalAggregation::mean ? std::vector<int>{3, 1, 2, 0}
                                                                : std::vector<int>{3})
          conform<T>(c.name, given.inputs(), {},
                     {normal(given.rows() * c.dim, 4), normal(given.words() * c.dim, 5)},
                     [&](auto k, auto& x, auto, auto& y) {
                       const auto a = given.of(x, aggregation);
                       T *dp = wanted & 1 ? y[0].data() : nullptr,
                         *dw = wanted & 2 ? y[1].data() : nullptr;
                       if constexpr (std::is_same_v<decltype(k), Cuda>)
                         k.local_scores_backward(a, x[2].data(), dp, dw, tile);
                       else
                         k.local_scores_backward(a, x[2].data(), dp, dw);
                     });
      }
    }
}

TEST_CASE_TEMPLATE("local_scores: what is not a number comes out, in its pairs alone", T, float,
                   double) {
  const Arguments given({"", 2, 3, 4, {2, 5}});
  for (LocalAggregation aggregation : aggregations)
    for (bool of_image : {true, false}) {
      auto in = given.inputs();
      in[of_image ? 0 : 1][1] = std::nan("");  // image 0 or text 0
      const auto run = [&]<class B>(B k) {
        std::vector<Tensor<T, B>> x;
        for (const Values& v : in) x.push_back(tensor<T, B>(v, {static_cast<Index>(v.size())}));
        const Tensor<T, B> z({4});
        k.local_scores(given.of(x, aggregation), z.data());
        return values(z);
      };
      const Values want = run(Reference{}), got = run(Cuda{});
      for (std::size_t i = 0; i < 4; ++i) {
        CAPTURE(i);
        CHECK(std::isnan(got[i]) == std::isnan(want[i]));
        if (!std::isnan(want[i])) CHECK(std::abs(got[i] - want[i]) <= tolerance<T> * 10);
      }
    }
}

TEST_CASE_TEMPLATE("local_scores take the scratch memory that they say, and no more", T, float,
                   double) {
  const Arguments given({"", 6, 7, 4, {40, 30, 50, 60}});
  std::vector<Tensor<T, Cuda>> x;
  for (const Values& v : given.inputs())
    x.push_back(tensor<T, Cuda>(v, {static_cast<Index>(v.size())}));
  const auto a = given.of(x, LocalAggregation::mean);
  const auto bytes = [&](bool backward, Index tile) {
    return Cuda::local_scores_scratch(a, backward, tile);
  };
  const Index whole = cuda::LocalAlignment::tile;
  CHECK(bytes(false, 0) < bytes(true, 0));
  CHECK(bytes(true, 0) < bytes(true, whole));
  // A matrix of one image: 7 regions, 180 words; the rest is small.
  const std::size_t matrix = 7 * 180 * sizeof(T);
  CHECK(bytes(false, 0) >= 3 * matrix);
  CHECK(bytes(false, 0) <= 3 * matrix + 16384);
  CHECK(bytes(true, 0) <= 4 * matrix + 16384);
  CHECK(bytes(true, whole) <= 24 * matrix + 65536);
  LocalArgs<T> large = a;  // as many images as anyone has: the bound holds
  large.images = 100000;
  CHECK(bytes(true, whole) <= Cuda::local_scores_scratch(large, true, whole));
  CHECK(Cuda::local_scores_scratch(large, true, whole) <= 8 * sizeof(T) * std::size_t{1 << 23});
}

namespace {

/// Numbers that bf16 holds: products of them are exact, and only shares of attention and gradients
/// are rounded.
Values rounded(Values x) {
  for (double& v : x) v = bfloat16(static_cast<float>(v));
  return x;
}

const Case half_cases[] = {
    {"one of each", 1, 1, 5, {1}},
    {"texts of one word", 3, 5, 17, {1, 1, 1}},
    {"very different lengths", 2, 17, 70, {1, 159, 3, 65, 1, 8, 16}},
    {"more words than a block", 3, 9, 5, {65, 159, 1, 170, 17, 160, 3}},
    {"a text longer than a block of words", 2, 19, 3, {3, 600, 1}},
    {"more regions than a block has rows", 2, 197, 33, {17, 1, 9}},
    {"more regions than two blocks have, and long texts", 2, 259, 8, {161, 320}},
    {"one region", 3, 1, 7, {3, 17}},
    {"no images", 0, 5, 3, {3, 1}},
    {"no texts", 3, 5, 3, {}},
    {"no regions", 2, 0, 3, {3, 1}},
};

/// Z and the gradients of p and w on a backend, in the order of `given.inputs()`.
template <class T, class B>
std::vector<Values> half_results(const Arguments& given, const std::vector<Values>& in,
                                 LocalAggregation aggregation, int wanted, Index tile,
                                 float gamma1 = 4) {
  std::vector<Tensor<T, B>> x;
  for (const Values& v : in) x.push_back(tensor<T, B>(v, {static_cast<Index>(v.size())}));
  auto a = given.of(x, aggregation);
  a.half_products = true;
  a.gamma1 = gamma1;
  const Tensor<T, B> z({given.c.images * given.texts()});
  auto dp = tensor<T, B>(normal(given.rows() * given.c.dim, 4), {given.rows() * given.c.dim}),
       dw = tensor<T, B>(normal(given.words() * given.c.dim, 5), {given.words() * given.c.dim});
  T *to_p = wanted & 1 ? dp.data() : nullptr, *to_w = wanted & 2 ? dw.data() : nullptr;
  if constexpr (std::is_same_v<B, Cuda>) {
    B::local_scores(a, z.data(), tile);
    B::local_scores_backward(a, x[2].data(), to_p, to_w, tile);
  } else {
    B::local_scores(a, z.data());
    B::local_scores_backward(a, x[2].data(), to_p, to_w);
  }
  return {values(z), values(dp), values(dw)};
}

}  // namespace

TEST_CASE("local_scores on tensor cores: within what rounding shares and gradients to bf16 makes") {
  for (const Case& c : half_cases)
    for (LocalAggregation aggregation : aggregations) {
      const Arguments given(c);
      std::vector<Values> in = given.inputs();
      for (Values& x : in) x = rounded(x);
      for (Index tile : {Index{0}, cuda::LocalAlignment::tile})
        for (int wanted : aggregation == LocalAggregation::mean ? std::vector<int>{3, 1, 2, 0}
                                                                : std::vector{3}) {
          if (tile == 0 && (wanted != 3 || c.images < 3)) continue;
          CAPTURE(c.name);
          CAPTURE(wanted);
          const auto want = half_results<double, Reference>(given, in, aggregation, wanted, tile),
                     got = half_results<float, Cuda>(given, in, aggregation, wanted, tile);
          for (std::size_t k = 0; k < 3; ++k) {
            CAPTURE(k);
            CHECK(difference(got[k], want[k]) <= 1e-2 * std::max(1.0, largest(want[k])));
          }
        }
    }
}

TEST_CASE("local_scores on tensor cores: the same bits each time") {
  const Arguments given({"", 5, 37, 20, {3, 170, 1, 90, 400}});
  const auto run = [&] {
    return half_results<float, Cuda>(given, given.inputs(), LocalAggregation::mean, 3,
                                     cuda::LocalAlignment::tile);
  };
  CHECK(run() == run());
}

TEST_CASE("local_scores on tensor cores: what is not a number comes out, in its pairs alone") {
  const Arguments given({"", 2, 3, 4, {2, 5}});
  for (LocalAggregation aggregation : aggregations)
    for (bool of_image : {true, false}) {
      auto in = given.inputs();
      for (Values& x : in) x = rounded(x);
      in[of_image ? 0 : 1][1] = std::nan("");  // image 0 or text 0
      const auto want = half_results<double, Reference>(given, in, aggregation, 3, 0),
                 got = half_results<float, Cuda>(given, in, aggregation, 3, 0);
      for (std::size_t i = 0; i < 4; ++i) {
        CAPTURE(i);
        CHECK(std::isnan(got[0][i]) == std::isnan(want[0][i]));
        if (!std::isnan(want[0][i])) CHECK(std::abs(got[0][i] - want[0][i]) <= 1e-2);
      }
    }
}

TEST_CASE("local_scores: factors of products are rounded only where shares stay numbers of bf16") {
  const Arguments given({"", 2, 6, 5, {4, 3}});
  for (float gamma1 : {-4.0f, 30.0f, -30.0f, 100.0f}) {
    std::vector<Values> in = given.inputs();
    for (Values& x : in) x = rounded(x);
    const auto want =
                   half_results<double, Reference>(given, in, LocalAggregation::mean, 3, 0, gamma1),
               got = half_results<float, Cuda>(given, in, LocalAggregation::mean, 3, 0, gamma1);
    CAPTURE(gamma1);
    const double room = std::abs(gamma1) > 32 ? 1e-4 : 5e-2;
    for (std::size_t k = 0; k < 3; ++k)
      CHECK(difference(got[k], want[k]) <= room * std::max(1.0, largest(want[k])));
  }
}
