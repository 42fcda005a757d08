#pragma once
// The mean losses of a data set.
#include <optional>

#include "hybridmed/data/loader.hpp"
#include "hybridmed/system/system.hpp"
#include "hybridmed/train/run_config.hpp"
#include "hybridmed/train/step.hpp"
#include "hybridmed/train/upload.hpp"

namespace hybridmed::train {

/// Unweighted means in the order of the stage's losses, and the weighted total.
struct MeanLosses {
  double total = 0;
  std::vector<double> losses;
};

/// Evaluates stage k on a data set; nothing where a stop was asked for. `on_nan(studies)` is
/// called for a batch whose loss is no number, and does not return.
template <class T, class B, class F>
std::optional<MeanLosses> mean_losses(system::System<T, B>& system, std::size_t k,
                                      const data::Dataset& dataset, const RunConfig& config,
                                      F&& on_nan) {
  const system::Stage& stage = system.stages()[k];
  const bool images = stage.reads_images();
  data::Loader loader(dataset,
                      {static_cast<std::size_t>(config.batch), false, false,
                       static_cast<int>(config.workers), images},
                      Philox(), 0);
  const system::StageOf<T, B> view(system, k);
  MeanLosses mean{0, std::vector<double>(stage.losses.size())};
  while (auto host = loader.next()) {
    if (interrupt_requested()) return std::nullopt;
    const auto r = evaluate_step(view, upload<T, B>(*host, system), nn::Mode::evaluation());
    if (!r.finite) on_nan(host->studies);
    const double share =
        static_cast<double>(host->studies.size()) / static_cast<double>(dataset.size());
    mean.total += share * r.total;
    for (std::size_t i = 0; i < r.losses.size(); ++i)
      mean.losses[i] += share * static_cast<double>(r.losses[i].value.item());
  }
  return mean;
}

}  // namespace hybridmed::train
