// Times whole training steps of a named configuration. The last line is one JSON object.
// usage: bench_step [--config vit-b16] [--batch 4] [--precision float|double] [--threads 2]
// [--steps 5] [--warmup 1]
//                   [--lengths FILE] [--stage 2] [--json]
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/model/flops.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"
#include "support.hpp"

using namespace hybridmed;
using B = CpuBackend;

namespace {

struct Options {
  std::string config = "vit-b16", lengths, precision = "float";
  Index batch = 4, steps = 5, warmup = 1;
  int threads = 2, stage = 2;
};

/// Sections of random tokens: full length, or line k of a file of "findings impression" lengths for
/// sample k.
struct Text {
  std::vector<std::int32_t> ids, offsets{0};
  void add(Index length, const model::Config& c, Philox random) {
    for (Index t = 0; t < length; ++t)
      ids.push_back(static_cast<std::int32_t>(
          t == 0            ? c.bos
          : t + 1 == length ? c.eos
                            : 3 + static_cast<Index>(random.below(
                                      ids.size(), static_cast<std::uint64_t>(c.vocab - 3)))));
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
  }
};

template <class T>
int run(const Options& o) {
  const model::Config c = model::Config::preset(o.config);
  const double before = bench::peak_gflops(o.threads);
  auto m = model::make_hybridmed<T, B>(c);
  system::Composed stage1(m, system::HybridMed::summarization(c));
  system::Composed stage2(m, system::HybridMed::alignment(c));
  nn::initialise(stage2, 1);
  if (o.stage == 1)
    nn::for_each_parameter(stage2, [&](const std::string& n, auto& p) {
      p.trainable = system::HybridMed::trains(0, n);
    });
  const auto teacher = m.snapshot();
  optim::AdamW<T, B> optimizer(stage2, {});
  Text findings, impression;
  std::ifstream lengths(o.lengths);
  if (!o.lengths.empty() && !lengths) {
    std::fprintf(stderr, "%s: cannot be read\n", o.lengths.c_str());
    return 1;
  }
  for (Index b = 0; b < o.batch; ++b) {
    Index f = c.t_findings, i = c.t_impression;
    if (!o.lengths.empty()) lengths >> f >> i;
    findings.add(std::min(f, c.t_findings), c, Philox(1, 1));
    impression.add(std::min(i, c.t_impression), c, Philox(1, 2));
  }
  Tensor<T, B> image({o.batch, 3, c.image_size, c.image_size});
  B::fill_normal(image.size(), Philox(2), 1.0, image.data());
  Tape tape;
  std::vector<double> times;
  double loss = 0;
  const auto step = [&](auto& stage) {
    model::Batch<T, B> batch{
        image, m.plan({findings.ids, findings.offsets}, {impression.ids, impression.offsets}, {})};
    if (stage.objective().template reads<representation::TeacherLogits>())
      batch.teacher_logits = teacher(batch.text);
    loss = train::train_step(stage, batch, optimizer, 1e-5, tape, nn::Mode::training()).total;
  };
  for (Index s = 0; s < o.warmup + o.steps; ++s) {
    const double t = bench::seconds_now();
    if (o.stage == 1)
      step(stage1);
    else
      step(stage2);
    if (s >= o.warmup) times.push_back(bench::seconds_now() - t);
  }
  const double peak = std::max(before, bench::peak_gflops(o.threads));
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double flops = o.stage == 1 ? 3 * model::count_flops(c, o.batch).teacher
                                    : model::count_flops(c, o.batch).step();
  const auto arena = HostArena::instance().statistics();
  std::printf(
      "{\"config\": \"%s\", \"batch\": %lld, \"precision\": \"%s\", \"stage\": %d, \"threads\": "
      "%d, \"gemm\": \"%s\", \"seconds\": %.4f, \"samples_per_s\": %.4f, ",
      o.config.c_str(), static_cast<long long>(o.batch), o.precision.c_str(), o.stage, o.threads,
      B::gemm_policy::name, median, static_cast<double>(o.batch) / median);
  if (o.lengths.empty())
    std::printf("\"mfu\": %.4f, \"gflops\": %.1f, ", flops / median / 1e9 / peak,
                flops / median / 1e9);
  else
    std::printf("\"mfu\": null, ");  // the count assumes full-length sections
  std::printf(
      "\"peak_gflops\": %.1f, \"peak_rss_mb\": %ld, \"arena_peak_mb\": %zu, \"arena_high_mb\": "
      "%zu, \"loss\": %.6f}\n",
      peak, usage.ru_maxrss / 1024, arena.peak >> 20, arena.high_mark >> 20, loss);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--json") continue;  // the output always ends in a JSON line
    if (i + 1 >= argc) {
      std::fprintf(stderr, "%s needs a value\n", a.c_str());
      return 2;
    }
    const std::string v = argv[++i];
    if (a == "--config")
      o.config = v;
    else if (a == "--batch")
      o.batch = std::atoll(v.c_str());
    else if (a == "--precision")
      o.precision = v;
    else if (a == "--threads")
      o.threads = std::atoi(v.c_str());
    else if (a == "--steps")
      o.steps = std::atoll(v.c_str());
    else if (a == "--warmup")
      o.warmup = std::atoll(v.c_str());
    else if (a == "--stage")
      o.stage = std::atoi(v.c_str());
    else if (a == "--lengths")
      o.lengths = v;
    else {
      std::fprintf(stderr, "unknown option %s\n", a.c_str());
      return 2;
    }
  }
  try {
    if (o.batch < 1 || o.steps < 1 || o.threads < 1)
      fail("bench", "step", "batch, steps and threads must be at least 1");
    B::set_threads(o.threads);
    if (o.precision == "double") return run<double>(o);
    if (o.precision == "float") return run<float>(o);
    fail("bench", "step", "unknown precision '" + o.precision + "'", "float or double");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
