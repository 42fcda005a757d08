#pragma once
// Small systems and batches that the tests of recorded steps and of faults train.
#include <doctest/doctest.h>

#include "hybridmed/backend/cuda/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/replay.hpp"
#include "small_step.hpp"
#include "support.hpp"
#include "train/cuda/faults.hpp"

namespace hybridmed::test {

/// Three samples: both sections, no findings, no impression. `number` changes tokens and pictures,
/// `longer` the length of a section.
template <class T, class B>
model::Batch<T, B> batch_for(const system::System<T, B>& s, std::int32_t number,
                             bool longer = false) {
  std::vector<std::int32_t> text{1, 20, 2, 1, 30, 31, 2}, at{0, 3, 7, 7},
      words{1, 7, 8, 2, 1, 9, 3, 2}, words_at{0, 4, 4, 8};
  text[1] += number % 10;
  words[5] += number % 20;
  if (longer) {
    words.insert(words.begin() + 2, 11);
    for (std::size_t i = 1; i < words_at.size(); ++i) ++words_at[i];
  }
  return {tensor<T, B>(normal(3 * 3 * 32 * 32, static_cast<std::uint64_t>(number), 0.5),
                       {3, 3, 32, 32}),
          s.plan({words, words_at}, {text, at}, {})};
}

template <class T, class B>
std::unique_ptr<system::System<T, B>> make(const char* name, const char* preset) {
  auto s = system::make_system<T, B>(name, small(preset));
  std::uint64_t stream = 0;
  nn::for_each_parameter(*s, [&](const std::string&, auto& p) {
    p.value = tensor<master_of<T>, B>(normal(p.value.size(), ++stream, 0.2), p.value.shape());
  });
  return s;
}

/// Parameters and buffers.
template <class T, class B>
Values state_of(system::System<T, B>& s) {
  Values all;
  const auto add = [&](const std::string&, const auto& x) {
    for (double v : values(x.value)) all.push_back(v);
  };
  nn::for_each_state(s, add, add);
  return all;
}

/// Total, norm and the losses in the order of the terms. NaN: a term that is left out, here -1.
template <class T, class B>
Values numbers_of(const train::IssuedStep<T, B>& issued) {
  const train::StepNumbers r = issued.numbers();
  Values all{r.total, r.gradient_norm};
  for (const auto& l : r.losses) all.push_back(l.second);
  for (double& x : all)
    if (std::isnan(x)) x = -1;
  return all;
}

}  // namespace hybridmed::test
