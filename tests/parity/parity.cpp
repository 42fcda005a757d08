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
#include "hybridmed/io/config.hpp"
#include "hybridmed/io/weights.hpp"
#include "hybridmed/task/generate.hpp"
#include "hybridmed/train/step.hpp"

using namespace hybridmed;

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

/// A whole tensor of ours in the reference's layout; entries that are not valid are not compared.
struct Mine {
  std::vector<double> data;
  std::vector<char> valid;
};

/// The entries that a set with a stride stores.
Mine every(const Mine& whole, Index stride) {
  Mine m;
  for (std::size_t i = 0; i < whole.data.size(); i += static_cast<std::size_t>(stride)) {
    m.data.push_back(whole.data[i]);
    if (!whole.valid.empty()) m.valid.push_back(whole.valid[i]);
  }
  return m;
}

/// Largest error of `mine` over the tensor's largest reference entry; NaN counts as infinite.
double error_of(const std::vector<double>& want, const Mine& mine, bool is_double) {
  double diff = 0, top = 0, own = 0;
  for (std::size_t i = 0; i < mine.data.size(); ++i) {
    if (!mine.valid.empty() && !mine.valid[i]) continue;
    const double b = want[i], a = mine.data[i], e = std::abs(a - b);
    diff = std::isnan(e) ? INFINITY : std::max(diff, e);
    top = std::max(top, std::abs(b));
    own = std::max(own, std::abs(a));
  }
  if (top < 1e-12) return own <= (is_double ? 1e-9 : 1e-5) ? 0 : INFINITY;
  return diff / top;
}

/// A tensor that a set stores: its entries, and how many of the whole lie between two of them.
struct Stored {
  std::vector<double> data;
  Index stride = 1;
};
std::string metadata(const io::Safetensors& set, const std::string& key) {
  const auto it = set.metadata().find(key);
  return it == set.metadata().end() ? std::string() : it->second;
}
Stored stored(const io::Safetensors& set, const std::string& name) {
  Stored out;
  const auto& t = set.at(name);
  for (Index i = 0; i < t.size(); ++i) out.data.push_back(t.at(i));
  const std::string stride = metadata(set, "stride:" + name);
  if (!stride.empty()) out.stride = std::stoll(stride);
  return out;
}

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
      : dir_(dir), batch_(io::Safetensors::read(dir / "batch.safetensors")) {
    json_ = io::read_json(dir / "config.json");
    io::from_json(json_, config_, (dir / "config.json").string(), true);
    config_.validate();
    section("findings", "has_findings", findings_ids_, findings_offsets_);
    section("impression", "has_impression", impression_ids_, impression_offsets_);
    const auto& key = batch_.at("impression_key");
    for (Index i = 0; i < key.size(); ++i) keys_.push_back(static_cast<std::int32_t>(key.at(i)));
    const auto& img = batch_.at("image");
    std::vector<T> pixels;
    for (Index i = 0; i < img.size(); ++i) pixels.push_back(static_cast<T>(img.at(i)));
    Shape s;
    for (Index e : img.shape) s.push_back(e);
    image_ = X::from_host(pixels, s);
    expected_ = io::read_json(dir / "f64" / "losses.json");
    if (!is_double && std::filesystem::exists(dir / "f32" / "losses.json"))
      peer_losses_ = largest_difference(io::read_json(dir / "f32" / "losses.json"), expected_);
  }

  bool all() {
    const bool first = outputs(), second = gradients(), third = stage1();
    return stage2() && first && second && third;
  }

 private:
  void section(const char* name, const char* flag, std::vector<std::int32_t>& ids,
               std::vector<std::int32_t>& offsets) {
    const auto &t = batch_.at(name), &has = batch_.at(flag);
    const Index rows = t.shape.at(0), length = t.shape.at(1);
    offsets = {0};
    for (Index b = 0; b < rows; ++b) {
      for (Index i = 0;
           i < length && has.at(b) != 0 && static_cast<Index>(t.at(b * length + i)) != config_.pad;
           ++i)
        ids.push_back(static_cast<std::int32_t>(t.at(b * length + i)));
      offsets.push_back(static_cast<std::int32_t>(ids.size()));
    }
  }
  model::SectionView findings() const { return {findings_ids_, findings_offsets_}; }
  model::SectionView impression() const { return {impression_ids_, impression_offsets_}; }
  auto make_model() const {
    auto m = model::make_hybridmed<T, B>(config_);
    const auto report = io::load_weights(m, io::Safetensors::read(dir_ / "weights.safetensors"));
    if (!report.complete())
      fail("parity", "weights",
           std::to_string(report.missing.size()) + " missing, " +
               std::to_string(report.unexpected.size()) + " unexpected, " +
               std::to_string(report.mismatched.size()) + " mismatched");
    return m;
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
    if (mine.valid.empty() && !metadata(want, "sum:" + name).empty()) {  // of the whole tensor
      double sum = 0, square = 0;
      for (double x : mine.data) {
        sum += x;
        square += x * x;
      }
      const double l2 = std::stod(metadata(want, "l2:" + name)),
                   n = static_cast<double>(mine.data.size());
      if (l2 > 1e-12)
        e = std::max(
            {e, std::abs(sum - std::stod(metadata(want, "sum:" + name))) / (l2 * std::sqrt(n)),
             std::abs(std::sqrt(square) - l2) / l2});
    }
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
    auto m = make_model();
    const auto teacher = m.snapshot();
    const Golden want(dir_, "outputs.safetensors");
    Group g = group("activations");
    g.expected = static_cast<int>(want.want.tensors().size());
    using Plan = model::TextPlan<B>;
    const Plan p = m.plan(findings(), impression(), keys_, Plan::Cls::both);
    const Index batch = p.batch, t_f = config_.t_findings, t_i = config_.t_impression;
    const auto im =
        m.image.template operator()<X>(image_, nn::Mode::inspection(), model::Levels::all);
    const X encoded = m.text.template operator()<X>(p);
    const X memory = m.memory(im.levels[3]);
    const auto h = m.decoder(encoded, p, {}, slice_rows(encoded, 0, p.findings_rows), memory);
    const X f_cls = m.text.norm(gather_rows(encoded, p.findings_cls)),
            i_cls = m.text.norm(gather_rows(encoded, p.impression_cls));
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

  model::Batch<T, B> batch(const auto& m, bool with_image = true) const {
    return {with_image ? image_ : X(), m.plan(findings(), impression(), keys_)};
  }

  bool gradients() {
    auto m = make_model();
    const auto teacher = m.snapshot();
    const auto objective = model::stage2_objective(config_);
    Tape tape;
    Group losses = group("losses, first step"), g = group("gradients");
    losses.peer = peer_losses_;
    std::array<objective::NamedLoss<T, B>, 5> named;
    const auto b = batch(m);
    {
      RecordOn on(tape);
      const auto total = objective(m.template represent<decltype(objective)::needs, Variable<T, B>>(
                                       b, &teacher, nn::Mode::inspection()),
                                   named);
      note_losses(losses, named, static_cast<double>(value(total).item()), expected_["stage2"][0]);
      backward(total);
    }
    const Golden want(dir_, "grads.safetensors");
    g.expected = static_cast<int>(want.want.tensors().size());
    nn::for_each_parameter(m, [&](const std::string& name, auto& p) {
      if (p.slot.grad.defined() && !(p.slot.grad.size() == p.value.size()))
        g.problems.push_back(name + ": gradient of another shape");
      compare(g, want, name, gradient(p));
    });
    const bool ok = losses.print();
    return g.print() && ok;
  }

  template <std::size_t n>
  void note_losses(Group& g, const std::array<objective::NamedLoss<T, B>, n>& named, double total,
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
    g.expected += static_cast<int>(n) + 1 + (norm >= 0);
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
    auto m = make_model();
    nn::for_each_parameter(
        m, [&](const std::string& name, auto& p) { p.trainable = m.in_stage1(name); });
    auto opt = optimizer(m);
    const double lr = json_["adamw"]["lr"].template get<double>();
    Tape tape;
    Group g = group("stage 1 losses");
    g.peer = peer_losses_;
    const auto objective = model::stage1_objective(config_);
    int i = 0;
    for (const auto& want : expected_.at("stage1")) {
      const auto r = train::train_step(m, objective, batch(m, false),
                                       static_cast<const model::Teacher<T, B>*>(nullptr), opt, lr,
                                       tape, nn::Mode::training());
      note_losses(g, r.losses, r.total, want, r.gradient_norm);
      ++i;
    }
    const bool ok = g.print();
    return after(m, "after_" + std::to_string(i) + "_steps_stage1.safetensors",
                 "weights after stage 1", [&](const std::string& n) { return m.in_stage1(n); }) &&
           ok;
  }

  bool stage2() {
    auto m = make_model();
    const auto teacher = m.snapshot();
    auto opt = optimizer(m);
    const double lr = json_["adamw"]["lr"].template get<double>();
    Tape tape;
    Group g = group("stage 2 losses");
    g.peer = peer_losses_;
    const auto objective = model::stage2_objective(config_);
    int i = 0;
    for (const auto& want : expected_.at("stage2")) {
      const auto r =
          train::train_step(m, objective, batch(m), &teacher, opt, lr, tape, nn::Mode::training());
      note_losses(g, r.losses, r.total, want, r.gradient_norm);
      ++i;
      ++g.expected;
      const double s = want.at("log_scale_after").template get<double>();
      g.note("log_scale_after",
             std::abs(static_cast<double>(m.log_scale.value.item()) - s) / std::abs(s));
    }
    const auto r = train::evaluate_step(m, objective, batch(m), &teacher, nn::Mode::evaluation());
    note_losses(g, r.losses, r.total, expected_.at("stage2_final"));
    bool ok = g.print();
    ok = after(m, "after_" + std::to_string(i) + "_steps.safetensors", "weights after stage 2",
               [](const std::string&) { return true; }) &&
         ok;
    Group greedy = group("greedy tokens");
    check_ids(greedy, "caption", task::caption(m, image_, {8, false}),
              expected_.at("greedy_caption_after"));
    check_ids(greedy, "summary", task::summarize<T, B>(m, findings(), {8, false}),
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
  io::Safetensors batch_;
  io::Json json_, expected_;
  model::Config config_;
  double peer_losses_ = 0;
  std::vector<std::int32_t> findings_ids_, findings_offsets_, impression_ids_, impression_offsets_,
      keys_;
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
