// Zero-shot scores fitted to probabilities, kept in the run.
#include <iomanip>

#include "hybridmed/picture/reliability.hpp"
#include "run.hpp"

namespace hybridmed::app {

/// A label's reliability before and after its calibration, in bins.
static picture::ReliabilityPanel reliability_panel(const task::LabelCalibration& c,
                                                   const task::KnownScores& known, double scale) {
  picture::ReliabilityPanel panel{c.prompts.label, {}};
  const auto before = known.map([&](double s) { return task::uncalibrated(s, scale); }),
             after = known.map([&](double s) { return c.fit.probability(s); });
  for (const auto& [name, probability, colour] :
       {std::tuple{"before: sigmoid(exp(log_scale) score)", &before,
                   picture::Colour{0.75, 0.75, 0.78}},
        {"after", &after, picture::Colour{0.12, 0.35, 0.70}}}) {
    picture::ReliabilityCurve curve{name, {}, {}, {}, colour};
    for (const auto& bin : metrics::reliability(*probability, known.truth)) {
      curve.predicted.push_back(bin.predicted);
      curve.observed.push_back(bin.observed);
      curve.n.push_back(bin.n);
    }
    panel.curves.push_back(std::move(curve));
  }
  return panel;
}

/// What the run has of a calibration, in words; empty where there is none.
static std::string present_calibration(const Run& run) {
  try {
    const auto before = task::read_calibration(run.folder);
    return before ? "the calibration of " + std::to_string(before->labels.size()) +
                        " labels that was fitted on " + data::printable(before->data)
                  : std::string();
  } catch (const Error& e) {
    return "a calibration that cannot be read: " + e.reason();
  }
}

int run_calibrate(const Common& common, const CalibrateOptions& o) {
  const auto prompts = task::read_prompts(o.prompts);
  const Run run = open_run(common, o.run);
  const auto& c = run.config;
  const data::DataFolder folder(o.data, folder_options(c.folder, o.tables));
  const data::Labels labels = folder.labels();
  if (labels.source.empty())
    fail("app", "calibrate",
         o.data + ": no " + folder.options().labels + ": calibration needs labels",
         "--set labels=FILE names another file");
  for (const auto& p : prompts) labels.at(p.label);
  folder.need_images();
  const bool all = !folder.has_splits() && o.split.empty();
  const std::string split =
      all ? std::string() : chosen_split(folder, o.split.empty() ? "valid" : o.split, "");
  data::StudySelection selection = c.selection(split);
  selection.needs_both = selection.needs_text = false;
  const data::Dataset dataset(folder, folder.select(selection), run.vocabulary, c.dataset());
  if (dataset.size() == 0) fail("app", "calibrate", o.data + ": no study in split '" + split + "'");
  std::cout << "run         " << data::printable(o.run) << " ("
            << data::printable(run.weights.string()) << ")\ndata        " << data::printable(o.data)
            << ", " << (split.empty() ? "all studies (the folder has no splits)" : "split " + split)
            << ", " << dataset.size() << " studies with an image\n";
  const auto trained = fs::exists(run.folder / "trained_studies.txt")
                           ? hashes_of(run, "trained_studies.txt")
                           : std::set<std::uint64_t>();
  if (const std::size_t n = known_studies(dataset, trained); n > 0)
    std::cout << "warning     " << n
              << " of these studies have the ids of studies that the run was trained on: if they "
                 "are the same, their scores are better than those of new ones, and the "
                 "probabilities will be too sure\n";
  const std::string replaced = present_calibration(run);
  const EncodedPrompts encoded = encode_prompts(run, prompts);
  const auto scores = run.model->zero_shot(encoded, embed_dataset(run, dataset));
  const double scale = log_scale(run);

  task::RunCalibration calibration{run.checksum, o.data, split, {}, {}};
  for (const auto& s : dataset.studies()) calibration.studies.push_back(train::text_hash(s.id));
  std::vector<picture::ReliabilityPanel> panels;
  std::size_t width = 5;
  for (const auto& p : prompts) width = (std::max)(width, p.label.size());
  std::cout
      << "\n"
      << std::left << std::setw(static_cast<int>(width)) << "label"
      << "      n  present  temperature   offset    threshold   sensitivity  specificity   "
         "calibration error*      Brier score\n"
      << std::string(width, ' ')
      << "                                                                             before  "
         "  after   before   after  base rate\n";
  std::vector<std::string> left_out;
  for (std::size_t k = 0; k < prompts.size(); ++k) {
    const task::KnownScores known =
        task::known_scores(scores.used(), k, prompts[k].label, dataset.studies(), labels);
    std::string why;
    const auto fit = task::calibrate_label(prompts[k], known, why);
    if (!fit) {
      left_out.push_back(prompts[k].label + ": " + why);
      continue;
    }
    const task::Reliability then = task::reliability_of(
        known.map([&](double s) { return task::uncalibrated(s, scale); }), known.truth);
    const task::Reliability now = task::reliability_of(
        known.map([&](double s) { return fit->fit.probability(s); }), known.truth);
    const task::RightAnswers answers = task::right_answers(fit->fit, known);
    char line[256];
    std::snprintf(
        line, sizeof line,
        " %6zu  %7zu  %11.4f  %7.4f  %11.6g   %11.3f  %11.3f   %7.3f  %7.3f  %7.3f %7.3f  %9.3f\n",
        known.truth.size(), fit->positives, fit->fit.temperature, fit->fit.offset,
        fit->fit.threshold,
        static_cast<double>(answers.positives) / static_cast<double>(fit->positives),
        static_cast<double>(answers.negatives) / static_cast<double>(fit->negatives), then.error,
        now.error, then.brier, now.brier, known.base_brier());
    std::cout << std::left << std::setw(static_cast<int>(width)) << prompts[k].label << line;
    panels.push_back(reliability_panel(*fit, known, scale));
    calibration.labels.push_back(*fit);
  }
  for (const auto& sentence : left_out) std::cout << "not calibrated: " << sentence << "\n";
  if (calibration.labels.empty())
    fail("app", "calibrate", "no label could be calibrated",
         "give a split with more labelled studies: --split NAME");
  const auto picture = run.folder / "reliability.png";
  picture::draw_reliability(picture.string(),
                            "Reliability on " + (split.empty() ? "all" : "split " + split + ",") +
                                " " + std::to_string(dataset.size()) +
                                " studies, before and after calibration; a dot stands for a bin, "
                                "its area for the studies in it",
                            panels);
  task::write_calibration(run.folder, calibration);  // last: a command that fails changes nothing
  if (!replaced.empty()) std::cout << "replaced    " << replaced << "\n";
  std::cout << "* expected calibration error over 15 bins of equal width; before: "
               "sigmoid(exp(log_scale) score)\n";
  std::cout << "\ncalibration " << task::calibration_file(run.folder).string() << "\npicture     "
            << picture.string()
            << "\nThese figures are of the studies that were fitted; 'evaluate' on another split "
               "gives held-out ones.\n";
  return 0;
}

}  // namespace hybridmed::app
