// Impressions written on the CUDA backend are those that the reference backend writes, and from the
// second token on a step is one graph launch.
#include <doctest/doctest.h>

#include "hybridmed/backend/cuda/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/task/generate.hpp"
#include "support.hpp"
#include "train/cuda/faults.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

constexpr Index samples = 3, side = 32;

struct Written {
  task::Generated captions, summaries;
};

template <class B>
Written written(const task::GenerateOptions& options) {
  auto config = model::Config::preset("tiny");
  config.image_size = side;
  config.uni_blocks = config.dec_blocks = 1;
  config.vocab = 40;
  auto model = model::make_hybridmed<double, B>(config);
  std::uint64_t stream = 0;
  nn::for_each_parameter(model, [&](const std::string&, auto& p) {
    p.value = tensor<double, B>(normal(p.value.size(), ++stream, 0.3), p.value.shape());
  });
  const auto images =
      tensor<double, B>(normal(samples * 3 * side * side, 3, 0.5), {samples, 3, side, side});
  const std::vector<std::int32_t> words{1, 7, 8, 2, 1, 9, 3, 2}, offsets{0, 4, 4, 8};
  return {task::caption(model, images, options),
          task::summarize<double, B>(model, {words, offsets}, options)};
}

void same(const task::Generated& got, const task::Generated& want) {
  CHECK(got.not_recorded == "");
  CHECK(got.ids == want.ids);
  REQUIRE(got.margin.size() == want.margin.size());
  for (std::size_t i = 0; i < want.margin.size(); ++i) {
    REQUIRE(got.margin[i].size() == want.margin[i].size());
    for (std::size_t t = 0; t < want.margin[i].size(); ++t)
      CHECK(std::abs(got.margin[i][t] - want.margin[i][t]) <= 1e-9);
  }
}

}  // namespace

TEST_CASE("captions and summaries, of all steps and up to the end of each text") {
  for (const task::GenerateOptions& options : {task::GenerateOptions{6, false}, {6, true}, {0}}) {
    const Written got = written<Cuda>(options), want = written<Reference>(options);
    same(got.captions, want.captions);
    same(got.summaries, want.summaries);
    REQUIRE(want.captions.ids.size() == samples);
    if (!options.stop_at_eos)
      for (const auto& margins : want.captions.margin)
        for (double m : margins) CHECK(m > 1e-6);  // no tie that rounding could break
  }
}

TEST_CASE("a step is one graph launch, and where it cannot be recorded the texts are the same") {
  const task::GenerateOptions options{5, false};
  const auto before = cuda::memory_statistics().in_use;
  faults.restart_counters();
  const Written recorded = written<Cuda>(options);
  CHECK(faults.graphs == 2 * 4);
  const long launches = faults.kernels;
  CHECK(cuda::memory_statistics().in_use == before);

  faults.no_capture = true;
  faults.restart_counters();
  const Written plain = written<Cuda>(options);
  faults.no_capture = false;
  CHECK(faults.graphs == 0);
  CHECK(faults.kernels > launches);
  CHECK(cuda::memory_statistics().in_use == before);
  for (auto part : {&Written::captions, &Written::summaries}) {
    CHECK((plain.*part).not_recorded.starts_with("[hybridmed.cuda] record: cudaError"));
    CHECK((plain.*part).ids == (recorded.*part).ids);
    CHECK((plain.*part).margin == (recorded.*part).margin);
  }

  // Two tokens are not worth a recording.
  faults.restart_counters();
  written<Cuda>({2, false});
  CHECK(faults.graphs == 0);
}
