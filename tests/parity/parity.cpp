// Compares the library with a folder written by tests/reference/export_golden.py, by the comparison
// rule of the reference's README: in double every error is at most 1e-9; in float the errors of a
// group (activations, losses, gradients, weights after a stage) are at most the larger of 2e-4 and
// twice those of PyTorch's own float run. In bf16, where the folder has PyTorch's own run, losses
// and gradients of the first step are at most the larger of 2e-2 and twice PyTorch's, and their
// median at most 1.5 times PyTorch's.
//
// usage: parity DIR [--backend cpu|reference]
//        parity_cuda DIR   the same on the CUDA backend; 77 where there is no device
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <set>

#ifdef HYBRIDMED_PARITY_CUDA
#include "hybridmed/backend/cuda/backend.hpp"
#else
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#endif
#include "golden_set.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/task/generate.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::golden;

namespace {

/// How a precision is compared: PyTorch's own run in it, and the error below which nothing is
/// asked.
struct Precision {
  const char* name;
  const char* peer;  // folder of the golden set, or null: the set is of this precision
  double least;
  bool median;  // is bounded too
};
template <class T>
constexpr Precision precision_of =
    std::is_same_v<T, double>  ? Precision{"double", nullptr, 1e-9, false}
    : std::is_same_v<T, float> ? Precision{"float", "f32", 2e-4, false}
                               : Precision{"bf16", "bf16", 2e-2, true};

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::sort(x.begin(), x.end());
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

/// One printed line: a group of tensors, their errors against the double run, and PyTorch's own.
struct Group {
  std::string name;
  Precision precision = precision_of<double>;
  std::vector<double> errors{}, peers{};  // of each tensor; of PyTorch's run in this precision
  std::string where = "-";
  int expected = 0;
  std::vector<std::string> problems = {};

  void note(const std::string& tensor, double e, double peer = 0) {
    if (errors.empty() || !(e <= error())) where = tensor;
    errors.push_back(std::isnan(e) ? INFINITY : e);
    peers.push_back(peer);
  }
  static double largest(const std::vector<double>& x) {
    return x.empty() ? 0 : *std::max_element(x.begin(), x.end());
  }
  double error() const { return largest(errors); }
  double bound() const {
    return precision.peer ? std::max(precision.least, 2 * largest(peers)) : precision.least;
  }
  bool print() const {
    const int compared = static_cast<int>(errors.size());
    // Of a few numbers, which one draw of rounding errors moves together, it says nothing.
    const bool typical =
                   !precision.median || compared < 16 || median(errors) <= 1.5 * median(peers),
               ok = problems.empty() && compared == expected && error() <= bound() && typical;
    std::printf("%-28s largest error %.2e (%s), bound %.1e", name.c_str(), error(), where.c_str(),
                bound());
    if (precision.peer)
      std::printf(" (PyTorch's own %s run: %.2e)", precision.name, largest(peers));
    if (precision.median)
      std::printf(", median %.2e of PyTorch's %.2e", median(errors), median(peers));
    std::printf("  compared %d of %d expected  %s\n", compared, expected, ok ? "ok" : "FAILED");
    for (std::size_t i = 0; i < problems.size() && i < 8; ++i)
      std::printf("    %s\n", problems[i].c_str());
    return ok;
  }
};

/// The golden values of one file: the double run's, and PyTorch's run in another precision, if
/// there.
struct Golden {
  io::Safetensors want;
  std::optional<io::Safetensors> peer;

  Golden(const std::filesystem::path& dir, const std::string& file, Precision precision)
      : want(io::Safetensors::read(dir / "f64" / file)) {
    if (precision.peer && std::filesystem::exists(dir / precision.peer / file))
      peer = io::Safetensors::read(dir / precision.peer / file);
  }
  /// Error of PyTorch's run, over the entries that both store and that are valid.
  double peer_error(const std::string& name, const std::vector<char>& valid) const {
    if (!peer || !peer->find(name)) return 0;
    const Stored b = stored(want, name), a = stored(*peer, name);
    Mine mine;
    std::vector<double> common;
    for (std::size_t i = 0; i < a.data.size(); ++i) {
      const auto at = static_cast<Index>(i) * a.stride;  // in the whole tensor
      const auto k = static_cast<std::size_t>(at / b.stride);
      if (at % b.stride != 0 || k >= b.data.size()) continue;
      mine.data.push_back(a.data[i]);
      if (!valid.empty()) mine.valid.push_back(valid[static_cast<std::size_t>(at)]);
      common.push_back(b.data[k]);
    }
    const double e = error_of(common, mine, false);
    return std::isfinite(e) ? e : 0;
  }
};

template <class T, class B>
class Run {
  using M = master_of<T>;
  using X = Tensor<T, B>;
  static constexpr Precision precision = precision_of<T>;
  static constexpr bool is_double = std::is_same_v<T, double>;

 public:
  explicit Run(const std::filesystem::path& dir)
      : dir_(dir), set_(dir), config_(set_.config), image_(set_.template image<T, B>()) {
    json_ = io::read_json(dir / "config.json");
    expected_ = io::read_json(dir / "f64" / "losses.json");
    if (precision.peer && std::filesystem::exists(dir / precision.peer / "losses.json"))
      peer_ = io::read_json(dir / precision.peer / "losses.json");
  }

  bool all() {
    if constexpr (precision.median) {
      return gradients();  // all that a bf16 run of PyTorch stores
    } else {
      const bool first = outputs(), second = gradients(), third = stage1();
      return stage2() && first && second && third;
    }
  }

 private:
  using System = system::SystemOf<system::HybridMed, T, B>;

  SectionView findings() const { return set_.findings.view(); }
  SectionView impression() const { return set_.impression.view(); }
  std::unique_ptr<System> make_system() const {
    auto s = std::make_unique<System>(config_);
    load_all(*s, {dir_ / "weights.safetensors"});
    return s;
  }
  std::string title(const char* what) const { return std::string(precision.name) + " " + what; }

  Group group(const char* what) const { return {title(what), precision}; }

  /// Relative difference; of an expected 0, none.
  static double difference(double x, double want) {
    return std::abs(want) < 1e-12 ? 0 : std::abs(x - want) / std::abs(want);
  }

  void compare(Group& g, const Golden& golden, const std::string& name, const Mine& mine) {
    const io::Safetensors& want = golden.want;
    if (!want.find(name))
      return g.problems.push_back(name + ": extra, the reference has no such tensor");
    const Stored t = stored(want, name);
    const Mine entries = every(mine, t.stride);
    if (t.data.size() != entries.data.size())
      return g.problems.push_back(name + ": expected " + std::to_string(t.data.size()) +
                                  " entries, got " + std::to_string(entries.data.size()));
    double e = error_of(t.data, entries, is_double);
    if (mine.valid.empty()) e = std::max(e, summary_error(want, name, mine.data));
    g.note(name, e, golden.peer_error(name, mine.valid));
  }

  template <class S>
  static Mine whole(const Tensor<S, B>& t) {
    Mine m;
    for (S x : t.to_host()) m.data.push_back(static_cast<double>(x));
    return m;
  }
  /// A parameter that no loss reached has gradient 0.
  static Mine gradient(const Parameter<T, B>& p) {
    return whole(p.slot.grad.defined() ? p.slot.grad : Tensor<M, B>::zeros(p.value.shape()));
  }
  /// channels-last rows (B * n, C) -> (B, C, n)
  static Mine channels_first(const X& t, Index batch) {
    const auto v = t.to_host();
    const Index n = t.rows() / batch, c = t.cols();
    Mine m;
    m.data.resize(v.size());
    for (Index b = 0; b < batch; ++b)
      for (Index i = 0; i < n; ++i)
        for (Index k = 0; k < c; ++k)
          m.data[static_cast<std::size_t>((b * c + k) * n + i)] =
              static_cast<double>(v[static_cast<std::size_t>((b * n + i) * c + k)]);
    return m;
  }
  /// Packed rows spread over (B, length, cols): row r goes to sample / place given by `at(b, t)`,
  /// -1 where there is none.
  Mine spread(const X& t, Index length, const std::function<Index(Index, Index)>& at) const {
    const auto v = t.to_host();
    const Index batch = image_.shape()[0], c = t.cols();
    Mine m;
    m.data.resize(static_cast<std::size_t>(batch * length * c));
    m.valid.resize(m.data.size());
    for (Index b = 0; b < batch; ++b)
      for (Index i = 0; i < length; ++i)
        if (const Index r = at(b, i); r >= 0)
          for (Index k = 0; k < c; ++k) {
            m.data[static_cast<std::size_t>((b * length + i) * c + k)] =
                static_cast<double>(v[static_cast<std::size_t>(r * c + k)]);
            m.valid[static_cast<std::size_t>((b * length + i) * c + k)] = 1;
          }
    return m;
  }

  bool outputs() {
    const auto owner = make_system();
    auto& m = owner->model();
    const auto teacher = m.snapshot();
    const Golden want(dir_, "outputs.safetensors", precision);
    Group g = group("activations");
    g.expected = static_cast<int>(want.want.tensors().size());
    using Plan = model::TextPlan<B>;
    const Plan p = m.plan(findings(), impression(), set_.keys, Plan::Cls::both);
    const Index batch = p.batch, t_f = config_.t_findings, t_i = config_.t_impression;
    const auto im =
        m.image.template operator()<X>(image_, nn::Mode::inspection(), model::Levels::all);
    const X encoded = m.text.template operator()<X>(p);
    const X memory = m.memory(im.levels[3]);
    const auto h = m.decoder(encoded, p, {}, slice_rows(encoded, 0, p.findings_rows), memory);
    const X f_cls = m.text.global(encoded, p.findings_cls),
            i_cls = m.text.global(encoded, p.impression_cls);
    std::vector<Index> f_row, i_row, s_row, c_row;  // first packed row of each sample
    Index row = 0, s = 0, c = 0;
    for (Index b = 0; b < batch; ++b) {
      f_row.push_back(row);
      row += findings().length(b) + 1;
    }
    for (Index b = 0; b < batch; ++b) {
      i_row.push_back(row);
      row += impression().length(b) + 1;
      const Index targets = std::max<Index>(impression().length(b) - 1, 0);
      s_row.push_back(s);
      c_row.push_back(c);
      s += findings().length(b) ? targets : 0;
      c += targets;
    }
    const auto f_at = [&](Index b, Index t) {
      return t < findings().length(b) ? f_row[static_cast<std::size_t>(b)] + t : -1;
    };
    const auto i_at = [&](Index b, Index t) {
      return t < impression().length(b) ? i_row[static_cast<std::size_t>(b)] + t : -1;
    };
    const auto s_at = [&](Index b, Index t) {
      return findings().length(b) && t + 1 < impression().length(b)
                 ? s_row[static_cast<std::size_t>(b)] + t
                 : -1;
    };
    const auto c_at = [&](Index b, Index t) {
      return t + 1 < impression().length(b) ? c_row[static_cast<std::size_t>(b)] + t : -1;
    };
    for (std::size_t l = 0; l < 4; ++l)
      compare(g, want, "level" + std::to_string(l), channels_first(im.levels[l], batch));
    compare(g, want, "global", whole(im.global));
    compare(g, want, "aggregated", whole(m.aggregator(im.levels)));
    compare(g, want, "caption_memory", whole(memory));
    compare(g, want, "findings_tokens", spread(encoded, t_f, f_at));
    compare(g, want, "impression_tokens", spread(encoded, t_i, i_at));
    compare(g, want, "findings_cls", whole(f_cls));
    compare(g, want, "impression_cls", whole(i_cls));
    compare(g, want, "image_embed", whole(m.proj.image_global(im.global)));
    compare(g, want, "text_embed", whole(m.proj.text_global(i_cls)));
    // words are compared where the reference's local_mask is set: tokens that are neither BOS nor
    // EOS
    compare(g, want, "findings_local",
            spread(m.proj.text_local(encoded), t_f,
                   [&](Index b, Index t) { return t < findings().length(b) ? f_at(b, t) : -1; }));
    compare(g, want, "logits_sum", spread(m.decoder.fc_summarize(h.summarize), t_i - 1, s_at));
    compare(g, want, "logits_cap", spread(m.decoder.fc_caption(h.caption), t_i - 1, c_at));
    if (want.want.find("logits_teacher"))
      compare(g, want, "logits_teacher", spread(teacher(p), t_i - 1, s_at));
    return g.print();
  }

  model::Batch<T, B> batch(const System& s, bool with_image = true) const {
    return {with_image ? image_ : X(), s.plan(findings(), impression(), set_.keys)};
  }

  bool gradients() {
    const auto s = make_system();
    s->begin_stage(1);
    Tape tape;
    Group losses = group("losses, first step"), g = group("gradients");
    objective::Losses<M, B> named;
    {
      RecordOn on(tape);
      const auto total = s->recorded_total(1, batch(*s), nn::Mode::inspection(), named);
      note_losses(losses, named, static_cast<double>(value(total).item()), "stage2", 0);
      backward(total);
    }
    const Golden want(dir_, "grads.safetensors", precision);
    g.expected = static_cast<int>(want.want.tensors().size());
    nn::for_each_parameter(*s, [&](const std::string& name, auto& p) {
      if (p.slot.grad.defined() && !(p.slot.grad.size() == p.value.size()))
        g.problems.push_back(name + ": gradient of another shape");
      compare(g, want, name, gradient(p));
    });
    const bool ok = losses.print();
    return g.print() && ok;
  }

  static const io::Json& at(const io::Json& run, const char* stage, std::size_t step) {
    const io::Json& steps = run.at(stage);
    return steps.is_array() ? steps.at(step) : steps;
  }

  void note_losses(Group& g, const objective::Losses<M, B>& named, double total, const char* stage,
                   std::size_t step, double norm = -1) const {
    const io::Json& want = at(expected_, stage, step);
    const io::Json* peer = peer_.contains(stage) ? &at(peer_, stage, step) : nullptr;
    std::set<std::string> unseen;
    for (const auto& [key, value] : want.items())
      if (key != "log_scale_after" && (key != "grad_norm" || norm >= 0)) unseen.insert(key);
    const auto one = [&](const std::string& key, double mine) {
      unseen.erase(key);
      if (!want.contains(key))
        return g.problems.push_back(key + ": the reference has no such loss");
      const double b = want.at(key).template get<double>();
      const bool zero = std::abs(b) < 1e-12;
      if (zero && !(std::abs(mine) <= (is_double ? 1e-9 : 1e-5)))
        g.problems.push_back(key + ": expected 0, got " + std::to_string(mine));
      g.note(key, difference(mine, b),
             peer && peer->contains(key) ? difference(peer->at(key).template get<double>(), b) : 0);
    };
    g.expected += static_cast<int>(named.size()) + 1 + (norm >= 0);
    for (const auto& l : named) one(std::string(l.name), static_cast<double>(l.value.item()));
    one("total", total);
    if (norm >= 0) one("grad_norm", norm);
    for (const auto& key : unseen) g.problems.push_back(key + ": missing, the reference lists it");
  }

  template <class M>
  bool after(M& m, const std::string& file, const char* what,
             const std::function<bool(const std::string&)>& wanted) {
    const Golden want(dir_, file, precision);
    Group g = group(what);
    g.expected = static_cast<int>(want.want.tensors().size());
    const auto one = [&](const std::string& name, auto& p) {
      if (wanted(name)) compare(g, want, name, whole(p.value));
    };
    nn::for_each_state(m, one, one);
    return g.print();
  }

  auto optimizer(auto& m) const {
    const auto& a = json_.at("adamw");
    return optim::AdamW<T, B>(
        m, {a.at("beta1").template get<double>(), a.at("beta2").template get<double>(),
            a.at("eps").template get<double>(), a.at("weight_decay").template get<double>(),
            a.at("clip").template get<double>()});
  }

  bool stage1() {
    const auto s = make_system();
    s->begin_stage(0);
    auto opt = optimizer(*s);
    const double lr = json_["adamw"]["lr"].template get<double>();
    Tape tape;
    Group g = group("stage 1 losses");
    system::StageOf<T, B> view(*s, 0);
    const std::size_t steps = expected_.at("stage1").size();
    for (std::size_t i = 0; i < steps; ++i) {
      const auto r = train::train_step(view, batch(*s, false), opt, lr, tape, nn::Mode::training());
      note_losses(g, r.losses, r.total, "stage1", i, r.gradient_norm);
    }
    const bool ok = g.print();
    return after(*s, "after_" + std::to_string(steps) + "_steps_stage1.safetensors",
                 "weights after stage 1",
                 [](const std::string& n) { return system::HybridMed::trains(0, n); }) &&
           ok;
  }

  bool stage2() {
    const auto s = make_system();
    s->begin_stage(1);
    auto opt = optimizer(*s);
    const double lr = json_["adamw"]["lr"].template get<double>();
    Tape tape;
    Group g = group("stage 2 losses");
    system::StageOf<T, B> view(*s, 1);
    const std::size_t steps = expected_.at("stage2").size();
    for (std::size_t i = 0; i < steps; ++i) {
      const auto r = train::train_step(view, batch(*s), opt, lr, tape, nn::Mode::training());
      note_losses(g, r.losses, r.total, "stage2", i, r.gradient_norm);
      ++g.expected;
      const double scale = expected_["stage2"][i].at("log_scale_after").template get<double>();
      nn::for_each_parameter(*s, [&](const std::string& name, auto& p) {
        if (name == "log_scale")
          g.note("log_scale_after", difference(static_cast<double>(p.value.item()), scale));
      });
    }
    const auto r = train::evaluate_step(view, batch(*s), nn::Mode::evaluation());
    note_losses(g, r.losses, r.total, "stage2_final", 0);
    bool ok = g.print();
    ok = after(*s, "after_" + std::to_string(steps) + "_steps.safetensors", "weights after stage 2",
               [](const std::string&) { return true; }) &&
         ok;
    Group greedy = group("greedy tokens");
    check_ids(greedy, "caption", task::caption(s->model(), image_, {8, false}),
              expected_.at("greedy_caption_after"));
    check_ids(greedy, "summary", task::summarize<T, B>(s->model(), findings(), {8, false}),
              expected_.at("greedy_summary_after"));
    return greedy.print() && ok;
  }

  void check_ids(Group& g, const char* what, const task::Generated& mine,
                 const io::Json& want) const {
    g.expected += static_cast<int>(mine.ids.size());
    for (std::size_t b = 0; b < std::min(want.size(), mine.ids.size()); ++b) {
      bool same = true;
      for (std::size_t t = 0; t < want[b].size() && same; ++t) {
        if (mine.margin[b][t] < 1e-4) break;
        same = mine.ids[b][t] == want[b][t].template get<std::int32_t>();
      }
      g.note(std::string(what) + " " + std::to_string(b), same ? 0 : INFINITY);
    }
  }

  std::filesystem::path dir_;
  GoldenSet set_;
  io::Json json_, expected_, peer_ = io::Json::object();
  model::Config config_;
  X image_;
};

template <class B>
bool every_precision(const std::filesystem::path& dir) {
  std::printf("%s, backend %s\n", dir.c_str(), B::name);
  bool ok = Run<double, B>(dir).all();
  ok = Run<float, B>(dir).all() && ok;
  if (!std::filesystem::exists(dir / "bf16")) {
    std::printf("bf16: not compared, the set has no bf16 run of PyTorch\n");
    return ok;
  }
  if constexpr (Backend<B, bfloat16>) {
    return Run<bfloat16, B>(dir).all() && ok;
  } else {
    std::printf("bf16: not compared, the backend has none\n");
    return ok;
  }
}

/// The backends of this program, the default first.
constexpr std::pair<const char*, bool (*)(const std::filesystem::path&)> backends[] = {
#ifdef HYBRIDMED_PARITY_CUDA
    {"cuda", every_precision<Cuda>},
#else
    {"cpu", every_precision<CpuBackend>},
    {"reference", every_precision<Reference>},
#endif
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string asked = argc == 4 && !std::strcmp(argv[2], "--backend") ? argv[3] : "";
    const auto* backend = argc == 2 ? backends
                                    : std::find_if(std::begin(backends), std::end(backends),
                                                   [&](const auto& b) { return b.first == asked; });
    if (backend == std::end(backends)) {
      std::fprintf(stderr, "usage: parity DIR [--backend cpu|reference], parity_cuda DIR\n");
      return 2;
    }
#ifdef HYBRIDMED_PARITY_CUDA
    if (cuda::device_count() == 0 && !std::getenv("HYBRIDMED_REQUIRE_CUDA")) {
      std::printf("SKIPPED: no CUDA device here\n");
      return 77;
    }
#endif
    const bool ok = backend->second(argv[1]);
    std::printf("%s\n", ok ? "parity: all groups within their bounds" : "parity: FAILED");
    return ok ? 0 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
