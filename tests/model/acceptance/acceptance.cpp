#include "acceptance.hpp"

#include "hybridmed/nn/initialise.hpp"

namespace hybridmed::test {

Ids section(Index length, std::uint64_t seed) {
  Ids ids{1};
  for (Index t = 1; t + 1 < length; ++t)
    ids.push_back(
        static_cast<std::int32_t>(3 + Philox(seed, 5).below(static_cast<std::uint64_t>(t), 500)));
  ids.push_back(2);
  return ids;
}
Values picture(std::uint64_t seed) { return normal(3 * 64 * 64, 900 + seed); }

std::vector<Sample> studies() {
  std::vector<Sample> s{{section(9, 1), section(6, 2), picture(1), 11},
                        {{}, section(8, 3), picture(2), 12},
                        {section(7, 4), {}, picture(3), 13},
                        {section(12, 5), section(6, 2), picture(4), 11},
                        {section(2, 6), section(4, 7), picture(5), 14}};
  return s;
}

X images(const std::vector<Sample>& samples) {
  Values pixels;
  for (const Sample& s : samples) pixels.insert(pixels.end(), s.image.begin(), s.image.end());
  return tensor<double, B>(pixels, {static_cast<Index>(samples.size()), 3, 64, 64});
}
model::TextPlan<B> plan(const Model& m, const std::vector<Sample>& samples,
                        model::TextPlan<B>::Cls cls) {
  Packed findings, impression;
  Ids keys;
  for (const Sample& s : samples) {
    findings.add(s.findings);
    impression.add(s.impression);
    keys.push_back(s.key);
  }
  return m.plan(findings.view(), impression.view(), keys, cls);
}
Batch batch(const Model& m, const std::vector<Sample>& samples) {
  return {images(samples), plan(m, samples)};
}
Batch taught(Batch b, const Teacher& teacher) {
  b.teacher_logits = teacher(b.text);
  return b;
}

Model make(const model::Config& c) {
  Model m = model::make_hybridmed<double, B>(c);
  system::Composed composed(
      m, 1.0 * objective::InfoNce{});  // a system's parameters begin with its objective's
  nn::initialise(composed, 3);
  std::uint64_t seed = 40;
  nn::for_each_parameter(composed, [&](const std::string&, auto& p) {
    ++seed;
    if (p.value.shape().rank() != 1) return;
    Values x = values(p.value);
    const Values noise = normal(p.value.size(), seed, .1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += noise[i];
    p.value = tensor<double, B>(x, p.value.shape());
  });
  return m;
}
Teacher other_teacher(const model::Config& c) {
  Model other = model::make_hybridmed<double, B>(c);
  nn::initialise(other, 99);
  return other.snapshot();
}

X caption_memory(const Model& m, const std::vector<Sample>& samples) {
  return m.memory(
      m.image.template operator()<X>(images(samples), nn::Mode::evaluation(), model::Levels::last)
          .levels[3]);
}

}  // namespace hybridmed::test
