// Compares the library with a folder written by tests/reference/export_golden.py, by the comparison
// rule of the reference's README: in double every error is at most 1e-9; in float the errors of a
// group (activations, losses, gradients, weights after a stage) are at most the larger of 2e-4 and
// twice those of PyTorch's own float run.
//
// usage: parity DIR [--backend cpu|reference]
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <set>

#ifdef HYBRIDMED_PARITY_CPU
#include "hybridmed/backend/cpu/backend.hpp"
#endif
#include "golden_set.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/task/generate.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;
using namespace hybridmed::golden;

namespace {

/// One printed line: a group of tensors, their errors against the double run, and PyTorch's own.
struct Group {
  std::string name;
  bool is_double = true;
  double peer = 0;  // largest error of PyTorch's float run in this group
  double error = 0;
  std::string where = "-";
  int compared = 0, expected = 0;
  std::vector<std::string> problems = {};

  void note(const std::string& tensor, double e) {
    ++compared;
    if (!(e <= error)) {
      error = e;
      where = tensor;
    }
  }
  double bound() const { return is_double ? 1e-9 : std::max(2e-4, 2 * peer); }
  bool print() const {
    const bool ok = problems.empty() && compared == expected && error <= bound();
    std::printf("%-28s largest error %.2e (%s), bound %.1e", name.c_str(), error, where.c_str(),
                bound());
    if (!is_double) std::printf(" (PyTorch's own float run: %.2e)", peer);
    std::printf("  compared %d of %d expected  %s\n", compared, expected, ok ? "ok" : "FAILED");
    for (std::size_t i = 0; i < problems.size() && i < 8; ++i)
      std::printf("    %s\n", problems[i].c_str());
    return ok;
  }
};

/// The golden values of one file: the double run's, and PyTorch's own float run of it, if there.
struct Golden {
  io::Safetensors want;
  std::optional<io::Safetensors> peer;

  Golden(const std::filesystem::path& dir, const std::string& file)
      : want(io::Safetensors::read(dir / "f64" / file)) {
    if (std::filesystem::exists(dir / "f32" / file))
      peer = io::Safetensors::read(dir / "f32" / file);
  }
  /// Error of the float run, over the entries that both store and that are valid.
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
  using X = Tensor<T, B>;
  static constexpr bool is_double = std::is_same_v<T, double>;

 public:
  explicit Run(const std::filesystem::path& dir)
      : dir_(dir), set_(dir), config_(set_.config), image_(set_.template image<T, B>()) {
    json_ = io::read_json(dir / "config.json");
    expected_ = io::read_json(dir / "f64" / "losses.json");
    if (!is_double && std::filesystem::exists(dir / "f32" / "losses.json"))
      peer_losses_ = largest_difference(io::read_json(dir / "f32" / "losses.json"), expected_);
  }

  bool all() {
    const bool first = outputs(), second = gradients(), third = stage1();
    return stage2() && first && second && third;
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
  std::string title(const char* what) const {
    return std::string(is_double ? "double " : "float ") + what;
  }

  Group group(const char* what) const { return {title(what), is_double}; }

  /// Relative difference of the losses of two runs, over all numbers that both list.
  static double largest_difference(const io::Json& a, const io::Json& b) {
    if (b.is_number_float() && a.is_number()) {
      const double x = a.get<double>(), y = b.get<double>();
      return std::abs(y) < 1e-12 ? 0 : std::abs(x - y) / std::abs(y);
    }
    double worst = 0;
    if (b.is_object()) {
      for (const auto& item : b.items())
        if (a.contains(item.key()))
          worst = std::max(worst, largest_difference(a.at(item.key()), item.value()));
    } else if (b.is_array()) {
      for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
        worst = std::max(worst, largest_difference(a[i], b[i]));
    }
    return worst;
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
    g.note(name, e);
    if (!is_double) g.peer = std::max(g.peer, golden.peer_error(name, mine.valid));
  }

  static Mine whole(const X& t) {
    Mine m;
    for (T x : t.to_host()) m.data.push_back(static_cast<double>(x));
    return m;
  }
  /// A parameter that no loss reached has gradient 0.
  static Mine gradient(const Parameter<T, B>& p) {
    return whole(p.slot.grad.defined() ? p.slot.grad : X::zeros(p.value.shape()));
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
    const Golden want(dir_, "outputs.safetensors");
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
    losses.peer = peer_losses_;
    objective::Losses<T, B> named;
    {
      RecordOn on(tape);
      const auto total = s->recorded_total(1, batch(*s), nn::Mode::inspection(), named);
      note_losses(losses, named, static_cast<double>(value(total).item()), expected_["stage2"][0]);
      backward(total);
    }
    const Golden want(dir_, "grads.safetensors");
    g.expected = static_cast<int>(want.want.tensors().size());
    nn::for_each_parameter(*s, [&](const std::string& name, auto& p) {
      if (p.slot.grad.defined() && !(p.slot.grad.size() == p.value.size()))
        g.problems.push_back(name + ": gradient of another shape");
      compare(g, want, name, gradient(p));
    });
    const bool ok = losses.print();
    return g.print() && ok;
  }

  void note_losses(Group& g, const objective::Losses<T, B>& named, double total,
                   const io::Json& want, double norm = -1) const {
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
      g.note(key, zero ? 0 : std::abs(mine - b) / std::abs(b));
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
    const Golden want(dir_, file);
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
    g.peer = peer_losses_;
    system::StageOf<T, B> view(*s, 0);
    int i = 0;
    for (const auto& want : expected_.at("stage1")) {
      const auto r = train::train_step(view, batch(*s, false), opt, lr, tape, nn::Mode::training());
      note_losses(g, r.losses, r.total, want, r.gradient_norm);
      ++i;
    }
    const bool ok = g.print();
    return after(*s, "after_" + std::to_string(i) + "_steps_stage1.safetensors",
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
    g.peer = peer_losses_;
    system::StageOf<T, B> view(*s, 1);
    int i = 0;
    for (const auto& want : expected_.at("stage2")) {
      const auto r = train::train_step(view, batch(*s), opt, lr, tape, nn::Mode::training());
      note_losses(g, r.losses, r.total, want, r.gradient_norm);
      ++i;
      ++g.expected;
      const double scale = want.at("log_scale_after").template get<double>();
      nn::for_each_parameter(*s, [&](const std::string& name, auto& p) {
        if (name == "log_scale")
          g.note("log_scale_after",
                 std::abs(static_cast<double>(p.value.item()) - scale) / std::abs(scale));
      });
    }
    const auto r = train::evaluate_step(view, batch(*s), nn::Mode::evaluation());
    note_losses(g, r.losses, r.total, expected_.at("stage2_final"));
    bool ok = g.print();
    ok = after(*s, "after_" + std::to_string(i) + "_steps.safetensors", "weights after stage 2",
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
  io::Json json_, expected_;
  model::Config config_;
  double peer_losses_ = 0;
  X image_;
};

template <class B>
bool both(const std::filesystem::path& dir) {
  std::printf("%s, backend %s\n", dir.c_str(), B::name);
  bool ok = Run<double, B>(dir).all();
  return Run<float, B>(dir).all() && ok;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) {
      std::fprintf(stderr, "usage: parity DIR [--backend cpu|reference]\n");
      return 2;
    }
    const bool reference =
        argc > 3 && !std::strcmp(argv[2], "--backend") && !std::strcmp(argv[3], "reference");
    bool ok = true;
#ifdef HYBRIDMED_PARITY_CPU
    ok = reference ? both<Reference>(argv[1]) : both<CpuBackend>(argv[1]);
#else
    (void)reference;
    ok = both<Reference>(argv[1]);
#endif
    std::printf("%s\n", ok ? "parity: all groups within their bounds" : "parity: FAILED");
    return ok ? 0 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
