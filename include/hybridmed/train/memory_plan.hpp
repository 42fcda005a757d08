#pragma once
// The memory that a run needs at its worst moment, measured before it begins.
#include "hybridmed/core/memory.hpp"
#include "hybridmed/system/system.hpp"
#include "hybridmed/train/preparation.hpp"
#include "hybridmed/train/upload.hpp"

namespace hybridmed::train {

/// Bytes of resized images that the data sets keep, if they are of 8 bits.
inline double image_bytes(const RunConfig& config, const Preparation& data) {
  const auto o = config.dataset();
  const auto kept = [&](const data::Dataset& d) {
    double n = 0;
    for (const auto& s : d.studies())
      n += static_cast<double>(s.images.size() * o.transform.resize * o.transform.resize);
    return (std::min)(n, static_cast<double>(o.cache_bytes));
  };
  return kept(data.train) + kept(data.valid);
}

/// The most bytes that tensors of backend B have had at once. A backend with memory of its own says
/// so by memory_peak(); 0 where it does not.
template <class B>
std::size_t peak_of_tensors() {
  if constexpr (HostMemory<B>)
    return HostArena::instance().statistics().peak;
  else if constexpr (requires { B::memory_peak(); })
    return B::memory_peak();
  else
    return 0;
}

/// Bytes of tensors at the worst moment of a step of stage k: a forward and backward pass over the
/// longest texts, measured, plus moments. Begins that stage.
template <class T, class B>
std::size_t step_bytes(system::System<T, B>& system, std::size_t k, const RunConfig& config,
                       const Preparation& data, Tape& tape) {
  std::vector<std::size_t> longest(data.train.size());
  for (std::size_t i = 0; i < longest.size(); ++i) longest[i] = i;
  const auto tokens = [&](std::size_t i) {
    return data.train.findings(i).size() + data.train.impression(i).size();
  };
  std::sort(longest.begin(), longest.end(), [&](std::size_t a, std::size_t b) {
    return tokens(a) != tokens(b) ? tokens(a) > tokens(b) : a < b;
  });
  longest.resize(static_cast<std::size_t>(config.batch), longest.back());
  HostArena::instance().reset_peak();
  system.begin_stage(k);
  std::size_t moments = 0;
  nn::for_each_parameter(
      system, nn::ParameterVisitor<T, B>([&](const std::string&, Parameter<T, B>& p) {
        if (p.trainable)
          moments += 2 * static_cast<std::size_t>(p.value.size()) * sizeof(master_of<T>);
      }));
  {
    const bool images = system.stages()[k].reads_images();
    objective::Losses<master_of<T>, B> losses;
    RecordOn recording(tape);
    backward(system.recorded_total(k,
                                   upload<T, B>(data.train.batch(longest, nullptr, images), system),
                                   nn::Mode::inspection(), losses));
  }
  nn::for_each_parameter(
      system,
      nn::ParameterVisitor<T, B>([](const std::string&, Parameter<T, B>& p) { p.slot.grad = {}; }));
  return peak_of_tensors<B>() + moments;
}

/// Bytes of tensors that a run needs at its worst moment, that of stage k.
/// @throws Error where the backend does not have them, or the machine has no room for what it
/// keeps.
template <class T, class B>
std::size_t plan_memory(system::System<T, B>& system, std::size_t k, const RunConfig& config,
                        const Preparation& data, Tape& tape) {
  const std::string keys = "lower batch = " + std::to_string(config.batch) +
                           ", image_size, t_findings or the model's widths";
  std::size_t bytes = 0;
  try {
    bytes = step_bytes(system, k, config, data, tape);
  } catch (const OutOfMemory& e) {
    throw OutOfMemory(
        "train", "memory",
        "a step with batch " + std::to_string(config.batch) + " does not fit: " + e.reason(), keys);
  }
  const std::size_t held = HostArena::instance().statistics().high_mark,
                    at_hand = available_memory(),
                    images = static_cast<std::size_t>(image_bytes(config, data));
  const std::size_t free =
      at_hand > (std::numeric_limits<std::size_t>::max)() - held ? at_hand : at_hand + held;
  const auto megabytes = [](std::size_t n) { return std::to_string(n >> 20) + " MB"; };
  const std::size_t here = HostMemory<B> ? bytes : 0;  // of them in this memory
  if (here + images > free)
    throw OutOfMemory("train", "memory",
                      "the run needs " + megabytes(here) + " of tensors and keeps " +
                          megabytes(images) + " of images, but the machine has " + megabytes(free),
                      keys + (images > bytes / 4 ? ", or cache_mb" : ""));
  return bytes;
}

}  // namespace hybridmed::train
