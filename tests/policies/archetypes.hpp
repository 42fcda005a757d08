#pragma once
// One archetype per policy slot: the members that its page under docs/policies/ requires, and
// nothing else. What compiles with these asks for no more than the pages say.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/model/image_encoder.hpp"
#include "hybridmed/objective/composition.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::archetype {

struct Gemm {
  template <class T>
  static void serial(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                     const T* b, Index ldb, T beta, T* c, Index ldc) {
    Reference::gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
  template <class Executor, class T>
  static void parallel(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                       const T* b, Index ldb, T beta, T* c, Index ldc) {
    serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
};

/// Runs the tiles backwards: nothing may depend on their order.
struct Executor {
  static int threads() { return 1; }
  static void set_threads(int) {}
  template <class F>
  static void for_each(Index count, F&& f) {
    for (Index i = count; i-- > 0;) f(i);
  }
};

/// No default constructor, no parameters.
struct Attention {
  explicit Attention(int) {}
  template <class F>
  void visit(F&&) {}
  template <Value V>
  V operator()(const V& x) const {
    return scale(x, 2);
  }
};
struct Ffn {
  Ffn(Index, Index) {}
  template <class F>
  void visit(F&&) {}
  template <Value V>
  V operator()(const V& x) const {
    return scale(x, 3);
  }
};
struct Norm {
  Norm(Index, double) {}
  template <class F>
  void visit(F&&) {}
  template <Value V>
  V operator()(const V& x) const {
    return scale(x, 5);
  }
};
struct Order {
  template <class V, class N, class F>
  static V residual(const V& x, const N& norm, F&& f) {
    return norm(f(x));
  }
};

/// Every level is a constant multiple of one parameter.
template <class T, class B>
struct Encoder {
  Parameter<T, B> only{{1, 4}, init::constant(0.5)};

  model::LevelShapes levels() const { return {{{2, 4}, {2, 4}, {1, 4}, {1, 4}}}; }
  template <class F>
  void visit(F&& f) {
    f("only", only);
  }
  template <Value V>
  model::ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode&,
                                     model::Levels) const {
    const Index batch = image.shape()[0];
    const auto repeat = [&](Index rows) {
      return gather_rows(use<Wide<V>>(only),
                         IndexTensor<B>::from_host(
                             std::vector<std::int32_t>(static_cast<std::size_t>(rows), 0), {rows}));
    };
    model::ImageFeatures<V> out;
    for (std::size_t l = 0; l < 4; ++l) out.levels[l] = repeat(batch * levels()[l].places());
    out.global = repeat(batch);
    return out;
  }
};

/// Every token is one and the same vector.
template <class T, class B>
struct TextEncoder {
  Parameter<T, B> only{{1, 4}, init::constant(0.5)};

  template <class F>
  void visit(F&& f) {
    f("only", only);
  }
  Index width() const { return 4; }
  bool causal() const { return false; }
  template <Value V>
  Wide<V> operator()(const model::TextPlan<B>& plan) const {
    return gather_rows(use<Wide<V>>(only), IndexPattern<B>({0}, 0).times(plan.rows));
  }
  template <Value V>
  V global(const V& states, const IndexTensor<B>& cls_rows) const {
    return gather_rows(states, cls_rows);
  }
};

struct Representation {
  static constexpr std::string_view name = "archetype";
  static constexpr unsigned reads = representation::no_input;
  template <Value V>
  struct Of {
    V only;
    template <class F>
    void visit(F&& f) {
      f(only);
    }
  };
};

struct Objective {
  static constexpr std::string_view name = "archetype";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    const V& x = get<representation::ImageGlobal>(r).projected;
    return sum(multiply(x, x));
  }
};

struct ObjectiveWithState {
  static constexpr std::string_view name = "archetype";
  static constexpr objective::Needs<Representation> needs{};
  template <class T, class B>
  struct State {
    Parameter<T, B> factor{Shape{}, init::ones()};

    explicit State(const ObjectiveWithState&) {}
    template <class F>
    void visit(F&& f) {
      f("factor", factor);
    }
  };
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    return multiply(sum(get<Representation>(r).only), use<V>(state.factor));
  }
};

/// One parameter, whatever the batch.
template <class T, class B>
struct Model {
  using Scalar = T;
  using Backend = B;
  struct Batch {};
  Parameter<T, B> only{{2, 3}, init::ones()};

  template <class F>
  void visit(F&& f) {
    f("only", only);
  }
  template <Value V, class N>
  void represent(const Batch&, const nn::Mode&, objective::Representations<V, N>& r) const {
    r.template set<Representation>({use<V>(only)});
  }
};

/// The same token for every word; cannot be copied, and has no default constructor.
struct Tokenizer {
  static constexpr std::int32_t pad = 0, bos = 1, eos = 2, unk = -1;
  std::unique_ptr<std::string> word;

  explicit Tokenizer(const char* w) : word(std::make_unique<std::string>(w)) {}
  std::size_t size() const { return 4; }
  std::string token(std::int32_t id) const { return id == 3 ? *word : ""; }
  std::vector<std::int32_t> encode(std::string_view text) const {
    const auto blanks = std::count(text.begin(), text.end(), ' ');
    return std::vector<std::int32_t>(text.empty() ? 0 : static_cast<std::size_t>(blanks) + 1, 3);
  }
  std::string decode(const std::vector<std::int32_t>& ids) const {
    std::string out;
    for (const std::int32_t id : ids) out += token(id);
    return out;
  }
  void write(const std::filesystem::path&) const {}
};

struct Recipe {
  static constexpr std::string_view name = "archetype";
  static auto stages(const model::Config&) {
    return std::tuple{system::StageRecipe{"learns nothing of use", 1.0 * Objective{}}};
  }
};

}  // namespace hybridmed::archetype
