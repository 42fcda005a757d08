// What one training step launches on CUDA, moves and computes, the least that it could move, and
// how long an H100 and an H200 would take for it. Nothing is executed, and no GPU is needed: the
// sequence of kernels is recorded.
// usage: bench_cuda_roofline [--config vit-b16] [--batch 64] [--precision bf16|float] [--stage 2]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "hybridmed/model/flops.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"
#include "roofline/recorder.hpp"

using namespace hybridmed;
using roofline::Ledger;
using roofline::Recorder;

namespace {

struct Options {
  std::string config = "vit-b16", precision = "bf16";
  Index batch = 64;
  std::size_t stage = 2;
};

/// `count` sections of full length.
struct Text {
  std::vector<std::int32_t> ids, offsets{0};
  Text(Index count, Index length, const model::Config& c) {
    for (Index b = 0; b < count; ++b) {
      for (Index t = 0; t < length; ++t)
        ids.push_back(static_cast<std::int32_t>(t == 0            ? c.bos
                                                : t + 1 == length ? c.eos
                                                                  : 3 + (b + t) % (c.vocab - 3)));
      offsets.push_back(static_cast<std::int32_t>(ids.size()));
    }
  }
};

void print_line(const std::string& kind, const Ledger::Row& row) {
  std::printf("%-22s %8d %10.1f %10.1f %10.1f %6.2f %8.3f", kind.c_str(), row.launches,
              row.read / 1e6, row.written / 1e6, row.least / 1e6,
              row.least > 0 ? row.moved() / row.least : 1.0, row.flops / 1e12);
  for (double s : row.seconds) std::printf(" %9.3f", 1e3 * s);
  std::printf("\n");
}

void add_to(Ledger::Row& total, const Ledger::Row& row) {
  total.launches += row.launches;
  total.read += row.read;
  total.written += row.written;
  total.least += row.least;
  total.flops += row.flops;
  for (std::size_t d = 0; d < row.seconds.size(); ++d) total.seconds[d] += row.seconds[d];
}

template <class T>
int run(const Options& o) {
  const model::Config config = model::Config::preset(o.config);
  system::SystemOf<system::HybridMed, T, Recorder> hybridmed(config);
  if (o.stage < 1 || o.stage > hybridmed.stages().size())
    fail("bench", "roofline", "expected stage 1 or 2, got " + std::to_string(o.stage));
  hybridmed.begin_stage(o.stage - 1);
  optim::AdamW<master_of<T>, Recorder> optimizer(hybridmed, {});
  const Text findings(o.batch, config.t_findings, config),
      impression(o.batch, config.t_impression, config);
  const model::Batch<T, Recorder> batch{
      Tensor<T, Recorder>({o.batch, 3, config.image_size, config.image_size}),
      hybridmed.plan({findings.ids, findings.offsets}, {impression.ids, impression.offsets}, {})};
  Tape tape;
  system::StageOf<T, Recorder> stage(hybridmed, o.stage - 1);
  // The second step, as all later ones: the first finds out which weights have copies in bf16.
  for (int step = 0; step < 2; ++step) {
    if (step == 1) optimizer.begin_step(0);  // makes the copies, once
    roofline::ledger.clear();
    optimizer.begin_step(1e-5);
    train::issue_step(stage, batch, optimizer, tape, nn::Mode::training());
  }

  std::printf("stage %zu of %s, batch %lld, %s: one step\n\n", o.stage, o.config.c_str(),
              static_cast<long long>(o.batch), o.precision.c_str());
  std::printf("%-22s %8s %10s %10s %10s %6s %8s", "kind", "launches", "MB read", "MB written",
              "MB least", "ratio", "TFLOP");
  for (const auto& d : roofline::devices) std::printf(" %6s ms", std::string(d.name).c_str());
  std::printf("\n");
  Ledger::Row products, rest;
  for (const auto& [kind, row] : roofline::ledger.table()) {
    print_line(std::string(kind), row);
    add_to(row.product ? products : rest, row);
  }
  Ledger::Row all = products;
  add_to(all, rest);
  std::printf("\n");
  print_line("products", products);
  print_line("all other kernels", rest);
  print_line("the step", all);
  const auto count = model::count_flops(config, o.batch);
  const double by_shapes = o.stage == 1 ? 3 * count.teacher : count.step();
  std::printf("\nbytes of all other kernels: %.2f of the least\n", rest.moved() / rest.least);
  std::printf("FLOP: %.2f of what the model's shapes say\n", all.flops / by_shapes);
  if (all.flops < 0.9 * by_shapes || all.flops > 1.2 * by_shapes)
    fail("bench", "roofline", "the recorded products are not those of the model");
  for (std::size_t d = 0; d < std::size(roofline::devices); ++d)
    std::printf("%s: %.1f ms predicted, %.0f %% of it in products; bound by %s\n",
                std::string(roofline::devices[d].name).c_str(), 1e3 * all.seconds[d],
                100 * products.seconds[d] / all.seconds[d],
                products.seconds[d] > rest.seconds[d] ? "products" : "memory");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
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
    else if (a == "--stage")
      o.stage = static_cast<std::size_t>(std::atoll(v.c_str()));
    else {
      std::fprintf(stderr, "unknown option %s\n", a.c_str());
      return 2;
    }
  }
  try {
    if (o.batch < 2) fail("bench", "roofline", "batch must be at least 2");
    if (o.precision == "bf16") return run<bfloat16>(o);
    if (o.precision == "float") return run<float>(o);
    fail("bench", "roofline", "unknown precision '" + o.precision + "'", "bf16 or float");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
