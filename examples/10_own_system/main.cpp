// Your own system, whole: a representation, the model that computes it, an objective that learns a
// parameter itself, and a recipe. The library's trainer trains it on a folder of reports, and a
// stopped run goes on bit for bit.
#include <unistd.h>

#include <cstdio>
#include <hybridmed/data/phantom.hpp>
#include <hybridmed/hybridmed.hpp>
#include <hybridmed/train/trainer.hpp>
using namespace hybridmed;
namespace fs = std::filesystem;
using T = double;
using B = CpuBackend;

/// What the image says the vector of the impression is, for samples with an impression.
struct Prediction {
  static constexpr std::string_view name = "prediction";
  static constexpr unsigned reads = representation::an_image;
  template <Value V>
  struct Of {
    V vectors;  ///< (n, d_e)
    template <class F>
    void visit(F&& f) {
      f(vectors);
    }
  };
};

/// HybridMED and a perceptron on its image vectors.
template <class T, class B>
struct Predictor {
  using Scalar = T;
  using Backend = B;
  using Batch = model::Batch<T, B>;
  static constexpr auto computes = representation::everything | objective::Needs<Prediction>{};
  using Base = model::HybridMed<T, B, model::AnyEncoder<T, B>>;
  Base base;
  nn::FeedForward<T, B> predict;

  Predictor(const model::Config& c, Base model)
      : base(std::move(model)), predict(c.d_e, 2 * c.d_e, c.d_e) {}
  template <class F>
  void visit(F&& f) {
    base.visit(f);
    f("predict", predict);
  }
  auto plan(const SectionView& findings, const SectionView& impression,
            std::span<const std::int32_t> keys) const {
    return base.plan(findings, impression, keys);
  }
  template <Value V, class N>
  void represent(const Batch& batch, const nn::Mode& mode,
                 objective::Representations<V, N>& r) const {
    base.represent(batch, mode, r);
    if constexpr (N::template has<Prediction>)
      if (r.template wants<Prediction>())
        r.template set<Prediction>({predict(get<representation::ImageGlobal>(r).projected)});
  }
};

/// exp(-s) d + s, where d is the mean squared distance of the prediction from the impression's unit
/// vector, times its width, and s, learned, the logarithm of what d may be (Kendall & Gal, NeurIPS
/// 2017).
struct PredictedImpression {
  double least = -3;  ///< of s

  static constexpr std::string_view name = "predicted";
  static constexpr objective::Needs<Prediction, representation::ImageGlobal,
                                    representation::ImpressionGlobal>
      needs{};

  template <class T, class B>
  struct State {
    Parameter<T, B> log_variance{Shape{}, init::zeros()};

    explicit State(const PredictedImpression&) {}
    template <class F>
    void visit(F&& f) {
      f("log_variance", log_variance);
    }
  };
  template <class T, class B>
  void constrain(State<T, B>& state) const {
    B::clamp(1, static_cast<T>(least), T(80), state.log_variance.value.data());
  }

  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    const V& predicted = get<Prediction>(r).vectors;
    if (value(predicted).size() == 0)  // no sample has an impression: nothing moves s
      return no_loss<V>();
    const V target = detach(normalize_rows(get<representation::ImpressionGlobal>(r).projected));
    const V difference = subtract(predicted, target);
    const V d = scale(mean(multiply(difference, difference)), value(target).cols());
    const V s = use<V>(state.log_variance);
    return add(multiply(d, exp(scale(s, -1))), s);
  }
};

struct Recipe {
  static constexpr std::string_view name = "own";
  static auto stages(const model::Config& c) {
    return std::tuple{system::StageRecipe{"learns to align and to predict",
                                          system::info_nce(c) + 0.5 * PredictedImpression{}}};
  }
  template <class T, class B>
  static auto model(const model::Config& c) {
    return Predictor<T, B>(c, model::make_hybridmed<T, B>(c, system::needs_of_recipe<Recipe>));
  }
};

train::RunConfig configuration(const fs::path& data) {
  train::RunConfig c;
  c.model = model::Config::preset("tiny-resnet");
  c.model.image_size = 32;
  c.model.image_width = 4;
  c.model.grid = 4;
  c.model.d = c.model.d_e = 16;
  c.model.heads = 2;
  c.model.uni_blocks = 1;
  c.data = data.string();
  c.vocab_size = 120;
  c.batch = 7;
  c.epochs_stage2 = 2;  // a system of one stage reads the keys of the last
  c.lr_stage2 = 3e-3;
  return c;
}

/// Trains, or goes on; stops after `stop_after` steps where that is not -1.
bool train_run(const train::RunConfig& config, const fs::path& run, bool resume,
               std::int64_t stop_after) {
  const auto make = [](const train::RunConfig& c) {
    return std::make_unique<system::SystemOf<Recipe, T, B>>(c.model);
  };
  train::Trainer<T, B> trainer(config, {run, resume, {}, stop_after}, make);
  return trainer.run();
}

/// How many files two folders hold, or -1 where a name or a byte differs.
int same_files(const fs::path& a, const fs::path& b) {
  int count = 0, other = 0;
  for (const auto& e : fs::recursive_directory_iterator(a)) {
    if (!e.is_regular_file()) continue;
    ++count;
    const fs::path twin = b / fs::relative(e.path(), a);
    if (!fs::exists(twin) || io::read_file(e.path()) != io::read_file(twin)) return -1;
  }
  for (const auto& e : fs::recursive_directory_iterator(b)) other += e.is_regular_file();
  return count == other ? count : -1;
}

int own_system(const fs::path& folder) {
  data::PhantomOptions phantoms;
  phantoms.count = 40;
  phantoms.side = 40;
  phantoms.valid = 0.2;
  phantoms.test = 0.1;
  data::write_phantoms(folder / "data", phantoms);

  const auto config = configuration(folder / "data");
  train_run(config, folder / "whole", false, -1);
  std::ifstream log(folder / "whole" / "log.jsonl");
  for (std::string line; std::getline(log, line);) {
    const io::Json row = io::parse_json(line, "log.jsonl");
    if (row["kind"] == "valid")
      std::printf("epoch %d  validation: cg %.2f  predicted %.2f\n", row["epoch"].get<int>(),
                  row["cg"].get<double>(), row["predicted"].get<double>());
  }

  const bool ended = train_run(config, folder / "parts", false, /*stop_after=*/4);
  std::printf("stopped after epoch 1: %s\n", ended ? "no" : "yes");
  train_run(config, folder / "parts", true, -1);
  const int files = same_files(folder / "whole", folder / "parts");
  std::printf("the resumed run %s\n", files < 0 ? "differs" : "has the same files, byte for byte");
  return files < 0;
}

int main() {
  const fs::path folder =
      fs::temp_directory_path() / ("hybridmed-own-system-" + std::to_string(::getpid()));
  int code = 1;
  try {
    code = own_system(folder);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
  }
  fs::remove_all(folder);
  return code;
}
