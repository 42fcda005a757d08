// Zero-shot scores of images.
#include "run.hpp"

namespace hybridmed::app {

int run_classify(const Common& common, const ImagesOptions& o) {
  const auto prompts = task::read_prompts(o.prompts);
  const Run run = open_run(common, o.run);
  std::vector<const task::LabelCalibration*> fits(prompts.size(), nullptr);
  std::optional<task::RunCalibration> calibration;
  try {
    calibration = task::calibration_of(run.folder, run.checksum);
  } catch (const Error& e) {
    if (o.scores != "cosine") throw;  // cosines need none
    std::cerr << "note: " << e.what() << "\n";
  }
  for (std::size_t k = 0; k < prompts.size(); ++k)
    if (calibration) {
      fits[k] = calibration->of(prompts[k]);
      const bool other = !fits[k] && std::any_of(calibration->labels.begin(),
                                                 calibration->labels.end(), [&](const auto& l) {
                                                   return l.prompts.label == prompts[k].label;
                                                 });
      if (other)
        std::cerr << "note: the calibration of '" << prompts[k].label
                  << "' is of other prompts, so it does not count\n";
    }
  std::vector<std::string> without;
  for (std::size_t k = 0; k < prompts.size(); ++k)
    if (!fits[k]) without.push_back("'" + prompts[k].label + "'");
  if (o.scores == "probability" && !without.empty())
    fail("app", "classify",
         o.run + ": no calibration for the prompts of " + train::first_of(without),
         "fit it on a labelled split with: hybridmed calibrate --run " + train::shell_word(o.run) +
             " --data FOLDER --prompts " + train::shell_word(o.prompts) +
             "; without --scores, each column says what it holds");
  const EncodedPrompts encoded = encode_prompts(run, prompts);
  const bool cosine = o.scores == "cosine";
  std::cout << "image";
  for (std::size_t k = 0; k < prompts.size(); ++k) {
    const std::string& label = prompts[k].label;
    std::cout << ","
              << data::csv_field(label + (fits[k] && !cosine
                                              ? " (probability)"
                                              : " (cosine difference, not a probability)"));
    if (fits[k]) std::cout << "," << data::csv_field(label + " (threshold)");
  }
  std::cout << "\n";
  return in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto scores = run.model->zero_shot(encoded, run.model->embed_images(images));
    for (std::size_t i = 0; i < paths.size(); ++i) {
      std::cout << data::csv_field(paths[i]);
      for (std::size_t k = 0; k < prompts.size(); ++k) {
        std::cout << ","
                  << (fits[k] && !cosine ? fits[k]->fit.probability(scores.used()(i, k))
                                         : scores.used()(i, k));
        if (fits[k])
          std::cout << "," << (cosine ? fits[k]->fit.threshold_score() : fits[k]->fit.threshold);
      }
      std::cout << "\n";
    }
  });
}

}  // namespace hybridmed::app
