#pragma once
// Acceptance tests derived from the paper's claims (method, section 12, items 1-5): studies of all
// patterns, and the model in double that they go through.
#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "../../support.hpp"
#include "hybridmed/system/hybridmed.hpp"

namespace hybridmed::test {

using namespace representation;

using B = CpuBackend;
using X = Tensor<double, B>;
using V = Variable<double, B>;
using Model = decltype(model::make_hybridmed<double, B>(model::Config{}));
using Ids = std::vector<std::int32_t>;
using Batch = model::Batch<double, B>;
using Teacher = model::Teacher<double, B>;

inline constexpr Needs<SummarizationLogits, CaptioningLogits> both_logits{};

/// One study. An absent section has no ids.
struct Sample {
  Ids findings, impression;
  Values image;
  std::int32_t key = 0;
};

Ids section(Index length, std::uint64_t seed);
Values picture(std::uint64_t seed);

/// All patterns of sections except "none": both, no findings, no impression, both with a repeated
/// impression, findings without words.
std::vector<Sample> studies();

/// Sections of all samples, one after the other, as a loader holds them.
struct Packed {
  Ids ids, offsets{0};
  void add(const Ids& section) {
    ids.insert(ids.end(), section.begin(), section.end());
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
  }
  SectionView view() const { return {ids, offsets}; }
};

X images(const std::vector<Sample>& samples);
model::TextPlan<B> plan(const Model& m, const std::vector<Sample>& samples,
                        model::TextPlan<B>::Cls cls = model::TextPlan<B>::Cls::impression);
Batch batch(const Model& m, const std::vector<Sample>& samples);
/// The same with what the teacher says to it.
Batch taught(Batch b, const Teacher& teacher);

/// An initialised model whose gains and biases are moved off 1 and 0, so that a forgotten one would
/// show.
Model make(const model::Config& c);
/// A teacher that differs from the model, so that distillation is not trivially 0.
Teacher other_teacher(const model::Config& c);
template <class F>
void for_each_preset(F&& f) {
  for (const std::string preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    CAPTURE(preset);
    const model::Config c = model::Config::preset(preset);
    Model m = make(c);
    f(m, c);
  }
}

/// What the model computes of these needs, among which those that are not wanted stay unset.
template <class... R, class Set>
Representations<X, Set> represent(const Model& m, Needs<R...>, const Batch& b, const nn::Mode& mode,
                                  Set) {
  Representations<X, Set> r;
  (r.template want<R>(), ...);
  m.represent(b, mode, r);
  r.need_all();
  return r;
}
template <class Set>
Representations<X, Set> represent(const Model& m, Set needs, const Batch& b, const nn::Mode& mode) {
  return represent(m, needs, b, mode, needs);
}

/// Rows of the captioning memory of every sample. Images are dear: tests that change texts alone
/// encode them once.
X caption_memory(const Model& m, const std::vector<Sample>& samples);

}  // namespace hybridmed::test
