// A training step allocates no heap memory from the second step on, whatever its section lengths:
// malloc and operator new are interposed. Built twice: with plain Eigen, and with oneDNN, whose own
// allocations are counted apart and reported.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <execinfo.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "hybridmed/autograd/recompute.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/step.hpp"

namespace {
std::atomic<long> allocations{0}, by_onednn{0};
std::atomic<bool> counting{false};

/// Counts one allocation; for oneDNN where any caller lies in its library, or in LLVM's OpenMP
/// runtime, which makes its team anew after oneDNN had one of another size.
void count() {
  if (!counting) return;
#ifdef HYBRIDMED_WITH_ONEDNN
  static thread_local bool inside = false;  // backtrace may allocate
  if (inside) return;
  inside = true;
  void* frames[48];
  bool foreign = false;
  for (int i = 0, n = backtrace(frames, 48); i < n && !foreign; ++i) {
    Dl_info info;
    foreign = dladdr(frames[i], &info) && info.dli_fname &&
              (std::strstr(info.dli_fname, "libdnnl") || std::strstr(info.dli_fname, "libomp"));
  }
  inside = false;
  ++(foreign ? by_onednn : allocations);
#else
  ++allocations;
#endif
}
}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t n) {
  count();
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  count();
  return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t a, std::size_t n) {
  count();
  return __libc_memalign(a, n);
}
int posix_memalign(void** p, std::size_t a, std::size_t n) {
  count();
  *p = __libc_memalign(a, n);
  return *p ? 0 : 12;
}
}

using namespace hybridmed;
using B = CpuBackend;  // products by oneDNN where this program has it, else by Eigen

namespace {

/// Sections of varying length; some are absent.
struct Section {
  std::vector<std::int32_t> ids, offsets{0};
  Section(Index batch, Index longest, const model::Config& c, Philox random) {
    for (Index b = 0; b < batch; ++b) {
      const auto n = static_cast<Index>(random.below(static_cast<std::uint64_t>(b),
                                                     static_cast<std::uint64_t>(longest - 2))) +
                     2;
      for (Index t = 0; t < (n == 2 ? 0 : n); ++t)
        ids.push_back(static_cast<std::int32_t>(t == 0 ? c.bos : t + 1 == n ? c.eos : 3 + t % 50));
      offsets.push_back(static_cast<std::int32_t>(ids.size()));
    }
  }
};

template <class T>
long allocations_of_later_steps(const char* preset) {
  const auto c = model::Config::preset(preset);
  auto m = model::make_hybridmed<T, B>(c);
  nn::initialise(m, 1);
  const auto teacher = m.snapshot();
  system::Composed composed(m, system::HybridMed::alignment(c));
  optim::AdamW<master_of<T>, B> optimizer(composed, {});
  const Index batch = 5;
  const auto image = Tensor<T, B>::full({batch, 3, c.image_size, c.image_size}, T(0.1f));
  Tape tape;
  std::vector<std::pair<Section, Section>> texts;
  for (std::uint64_t s = 0; s < 6; ++s)
    texts.emplace_back(
        Section(batch, s ? c.t_findings : 12, c, Philox(s, 1)),
        Section(batch, s ? c.t_impression : 8, c, Philox(s, 2)));  // later ones are longer
  long counted = 0;
  for (std::size_t s = 0; s < texts.size(); ++s) {
    allocations = 0;
    counting = s > 0;
    const auto& [f, i] = texts[s];
    model::Batch<T, B> b{image, m.plan({f.ids, f.offsets}, {i.ids, i.offsets}, {})};
    b.teacher_logits = teacher(b.text);
    train::train_step(composed, b, optimizer, 1e-4, tape, nn::Mode::training());
    counting = false;
    counted += allocations;
  }
  return counted;
}

/// The steps of a system's stages after the first of each.
template <class T>
long allocations_of_system(const char* name, const char* preset) {
  const auto c = model::Config::preset(preset);
  const auto system = system::make_system<T, B>(name, c);
  nn::initialise(*system, 1);
  const Index batch = 4;
  const auto image = Tensor<T, B>::full({batch, 3, c.image_size, c.image_size}, T(0.1f));
  const Section findings(batch, c.t_findings, c, Philox(1, 1)),
      impressions(batch, c.t_impression, c, Philox(1, 2));
  Tape tape;
  long counted = 0;
  for (std::size_t k = 0; k < system->stages().size(); ++k) {
    system->begin_stage(k);
    system->begin_epoch(k, 1);
    optim::AdamW<master_of<T>, B> optimizer(*system, {});
    system::StageOf<T, B> view(*system, k);
    for (int step = 0; step < 3; ++step) {
      allocations = 0;
      counting = step > 0;
      const model::Batch<T, B> b{image, system->plan({findings.ids, findings.offsets},
                                                     {impressions.ids, impressions.offsets}, {})};
      train::train_step(view, b, optimizer, 1e-4, tape, nn::Mode::training());
      counting = false;
      counted += allocations;
    }
  }
  return counted;
}

/// Blocks under recompute, the last of them one in the other, several roots, two outputs.
template <class T>
long allocations_under_recompute() {
  using A = accumulator_of<T>;  // of the residual stream
  using V = Variable<A, B>;
  const Index width = 16, batch = 3, side = 4;
  std::vector<nn::TransformerBlock<T, B>> blocks;
  for (int i = 0; i < 3; ++i)
    blocks.emplace_back(width, 2 * width, 1e-5, nn::SelfAttention<T, B>(width, 2));
  const model::ResidualBlock<T, B> residual(width, width, width, 1, false);
  const EqualSegments<B> sequence(side * side);
  const auto x = Tensor<A, B>::full({batch * side * side, width}, A(0.3));
  const auto rounded = narrow<T>(x);
  const auto target =
      row_indices<B>(ArenaVector<std::int32_t>(static_cast<std::size_t>(batch * side * side), 1));
  Tape tape;
  const auto mode = nn::Mode::training();
  long counted = 0;
  for (int step = 0; step < 4; ++step) {
    allocations = 0;
    counting = step > 0;
    {
      const RecordOn on(tape);
      const Segments<B> segments = sequence.times(batch);
      V h(x);
      for (const auto& b : blocks)
        h = recompute(
            [&b, mode, segments](const V& v) { return b.train(v, mode, 0, segments, false); }, h);
      const auto [one, two] = recompute(
          [&residual, &blocks, mode](const V& v) {
            const auto y = recompute(
                [&residual, mode](const Like<V, T>& u) {
                  Index s = side;
                  return residual(u, batch, s, mode);
                },
                narrow<T>(v));
            return blocks[0].ln1.after_add(v, widen(y));
          },
          h);
      backward({{cross_entropy(one, target, 0.1), Tensor<A, B>::full(Shape{}, 1)},
                {two, rounded},
                {h, x}});
    }
    counting = false;
    counted += allocations;
    CHECK(blocks[0].ln1.weight.slot.grad.defined());
    CHECK(residual.conv[0].weight.slot.grad.defined());
    for (auto& b : blocks)
      nn::for_each_parameter(b, [](const std::string&, auto& p) { p.slot.grad = {}; });
    for (const auto& c : residual.conv) c.weight.slot.grad = {};
    for (const auto& n : residual.bn) n.weight.slot.grad = n.bias.slot.grad = {};
  }
  return counted;
}

}  // namespace

TEST_CASE("the counter counts") {
  allocations = 0;
  counting = true;
  void* volatile p = std::malloc(100);
  std::free(p);
  int* volatile q = new int(3);
  delete q;
  counting = false;
  CHECK(allocations >= 2);
}

TEST_CASE("no heap allocation in a training step from the second step on") {
  by_onednn = 0;
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    CAPTURE(preset);
    CHECK(allocations_of_later_steps<float>(preset) == 0);
    CHECK(allocations_of_later_steps<double>(preset) == 0);
    CHECK(allocations_of_later_steps<bfloat16>(preset) == 0);
  }
  if (by_onednn > 0)
    MESSAGE("counted apart: ", by_onednn.load(),
            " allocations by oneDNN and the OpenMP runtime under it in the same 45 steps");
}

TEST_CASE_TEMPLATE("no heap allocation in a step of any system with any encoder", T, float,
                   bfloat16) {
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"})
    for (const char* name : {"hybridmed", "clip", "siglip", "convirt", "gloria", "mgca", "coca"}) {
      CAPTURE(preset);
      CAPTURE(name);
      CHECK(allocations_of_system<T>(name, preset) == 0);
    }
}

TEST_CASE("no heap allocation under recompute, with several roots and outputs, from step two on") {
  CHECK(allocations_under_recompute<float>() == 0);
  CHECK(allocations_under_recompute<double>() == 0);
  CHECK(allocations_under_recompute<bfloat16>() == 0);
}
