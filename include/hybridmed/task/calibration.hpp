#pragma once
// Zero-shot scores as probabilities: per label a temperature, an offset and a threshold, fitted on
// a labelled split and kept in the run, with the prompts and the weights that they belong to.
#include "hybridmed/io/checksum.hpp"
#include "hybridmed/metrics/calibration.hpp"
#include "hybridmed/task/zero_shot.hpp"

namespace hybridmed::task {

/// The calibration of one label's score `both`.
struct LabelCalibration {
  LabelPrompts prompts;
  metrics::Calibration fit;
  std::size_t positives = 0, negatives = 0;  // that it was fitted on

  bool sound() const {
    return std::isfinite(fit.temperature) && fit.temperature > 0 && std::isfinite(fit.offset) &&
           fit.threshold > 0 && fit.threshold < 1;
  }
};

/// Calibrations of one weights file.
struct RunCalibration {
  std::string weights;      // their checksum
  std::string data, split;  // split: empty where all studies were taken
  std::vector<LabelCalibration> labels;
  std::vector<std::uint64_t> studies = {};  // hashes of the ids that it was fitted on

  /// The calibration of these very prompts; null where there is none.
  const LabelCalibration* of(const LabelPrompts& p) const {
    for (const auto& l : labels)
      if (l.prompts.label == p.label && l.prompts.positive == p.positive &&
          l.prompts.negative == p.negative && l.prompts.ensemble == p.ensemble)
        return &l;
    return nullptr;
  }
};

/// What a calibration means; stands in its file.
inline const std::string calibration_formula =
    "1 / (1 + exp(-(score - offset) / temperature)), score: the mean of the global and the local "
    "cosine difference";

inline std::filesystem::path calibration_file(const std::filesystem::path& run) {
  return run / "calibration.json";
}

/// @throws Error for values that make no sense, or a label that stands twice.
inline void write_calibration(const std::filesystem::path& run, const RunCalibration& c) {
  std::set<std::string> names;
  for (const auto& l : c.labels) {
    if (!l.sound())
      fail(
          "task", "calibration",
          "label '" + l.prompts.label +
              "': expected a temperature above 0, a finite offset and a threshold between 0 and 1");
    if (!names.insert(l.prompts.label).second)
      fail("task", "calibration", "label '" + l.prompts.label + "' stands twice");
  }
  io::Json labels = io::Json::object();
  for (const auto& l : c.labels)
    labels[l.prompts.label] = {
        {"temperature", l.fit.temperature},
        {"offset", l.fit.offset},
        {"threshold", l.fit.threshold},
        {"positives", l.positives},
        {"negatives", l.negatives},
        {"positive", l.prompts.positive},
        {"negative", l.prompts.negative},
        {"ensemble", l.prompts.ensemble == PromptEnsemble::mean ? "mean" : "max"}};
  io::write_text_atomically(calibration_file(run),
                            io::Json{{"weights", c.weights},
                                     {"data", c.data},
                                     {"split", c.split},
                                     {"probability", calibration_formula},
                                     {"labels", labels},
                                     {"studies", c.studies}}
                                    .dump(1, ' ', false, io::Json::error_handler_t::replace) +
                                "\n");
}

namespace detail {
inline RunCalibration parse_calibration(const std::filesystem::path& path) {
  const io::Json j = io::read_json(path);
  const std::string source = path.string();
  RunCalibration c{io::get<std::string>(j, "weights", source),
                   io::get<std::string>(j, "data", source),
                   io::get<std::string>(j, "split", source),
                   {},
                   {}};
  const io::Json studies = io::get<io::Json>(j, "studies", source);
  if (!studies.is_array())
    fail("task", "calibration",
         source + ": the key 'studies' expects a list of hashes, got " +
             studies.dump().substr(0, 60));
  for (const io::Json& hash : studies) {
    if (!hash.is_number_unsigned())
      fail("task", "calibration",
           source + ": the key 'studies' expects a list of hashes, got " +
               hash.dump().substr(0, 60));
    c.studies.push_back(hash.get<std::uint64_t>());
  }
  if (io::get<std::string>(j, "probability", source) != calibration_formula)
    fail("task", "calibration",
         source + ": the key 'probability' expects '" + calibration_formula + "'",
         "fit it again with: hybridmed calibrate");
  const auto labels = io::get<io::Json>(j, "labels", source);
  if (!labels.is_object())
    fail("task", "calibration", source + ": the key 'labels' expects an object");
  for (const auto& item : labels.items()) {
    const std::string where = source + ", label '" + item.key() + "'";
    const io::Json& v = item.value();
    const auto ensemble = io::get<std::string>(v, "ensemble", where);
    const auto count = [&](const char* key) {
      const auto n = io::get<io::Json>(v, key, where);
      const auto most = (std::numeric_limits<std::int32_t>::max)();
      if (!n.is_number_unsigned() || n.get<std::uint64_t>() > static_cast<std::uint64_t>(most))
        fail("task", "calibration",
             where + ": the key '" + key + "' expects a number of studies, got " +
                 n.dump().substr(0, 60));
      return n.get<std::size_t>();
    };
    LabelCalibration l{
        {item.key(), io::get<std::vector<std::string>>(v, "positive", where),
         io::get<std::vector<std::string>>(v, "negative", where),
         ensemble == "mean" ? PromptEnsemble::mean : PromptEnsemble::max},
        {io::get<double>(v, "temperature", where), io::get<double>(v, "offset", where),
         io::get<double>(v, "threshold", where)},
        count("positives"),
        count("negatives")};
    if (!l.sound() || (ensemble != "mean" && ensemble != "max"))
      fail("task", "calibration",
           where +
               ": expected a temperature above 0, a finite offset, a threshold between 0 and 1, "
               "and ensemble max or mean",
           "fit it again with: hybridmed calibrate");
    c.labels.push_back(std::move(l));
  }
  return c;
}
}  // namespace detail

/// What `write_calibration` wrote; nothing where the run has no calibration.
/// @throws Error naming file and label where a value makes no sense.
inline std::optional<RunCalibration> read_calibration(const std::filesystem::path& run) {
  const auto path = calibration_file(run);
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return std::nullopt;
  try {
    return detail::parse_calibration(path);
  } catch (const Error& e) {
    fail("task", "calibration", e.reason(),
         e.hint().empty() ? std::string("fit it again with: hybridmed calibrate") : e.hint());
  }
}

/// The run's calibration, where it has one of these weights; for whoever answers with
/// probabilities. `weights`: their checksum (TrainedRun::checksum).
/// @throws Error where it belongs to other weights.
inline std::optional<RunCalibration> calibration_of(const std::filesystem::path& run,
                                                    const std::string& weights) {
  auto c = read_calibration(run);
  if (c && c->weights != weights)
    fail("task", "calibration",
         calibration_file(run).string() +
             ": it belongs to other weights than the run's best: the run was trained on since",
         "fit it again with: hybridmed calibrate");
  return c;
}

/// How reliable probabilities are.
struct Reliability {
  double error = 0, brier = 0;  ///< expected calibration error; Brier score
};
inline Reliability reliability_of(const std::vector<double>& probability,
                                  const std::vector<int>& truth) {
  return {metrics::expected_calibration_error(probability, truth),
          metrics::brier_score(probability, truth)};
}

/// The scores of a label over the studies where it is known to be present or absent, and the truth.
struct KnownScores {
  std::vector<double> score;
  std::vector<int> truth;

  std::size_t positives() const {
    return static_cast<std::size_t>(std::count(truth.begin(), truth.end(), 1));
  }
  /// Brier score of the share of positives, given to everyone.
  double base_brier() const {
    const double rate =
        truth.empty() ? 0 : static_cast<double>(positives()) / static_cast<double>(truth.size());
    return rate * (1 - rate);
  }
  template <class F>
  std::vector<double> map(F&& probability) const {
    std::vector<double> out;
    for (const double s : score) out.push_back(probability(s));
    return out;
  }
};
inline KnownScores known_scores(const xt::xtensor<double, 2>& scores, std::size_t label,
                                const std::string& name, const std::vector<data::Study>& studies,
                                const data::Labels& labels) {
  if (scores.shape()[0] != studies.size() || label >= scores.shape()[1])
    fail("task", "calibration",
         "expected scores (" + std::to_string(studies.size()) + ", more than " +
             std::to_string(label) + "), got (" + std::to_string(scores.shape()[0]) + ", " +
             std::to_string(scores.shape()[1]) + ")");
  KnownScores out;
  const std::size_t column = labels.at(name);
  for (std::size_t i = 0; i < studies.size(); ++i) {
    const auto it = labels.of.find(studies[i].id);
    if (it == labels.of.end() || column >= it->second.size() ||
        (it->second[column] != 0 && it->second[column] != 1))
      continue;
    out.score.push_back(scores(i, label));
    out.truth.push_back(it->second[column]);
  }
  return out;
}

/// Right answers at the threshold: of the positives, and of the negatives.
struct RightAnswers {
  std::size_t positives = 0, negatives = 0;
};
inline RightAnswers right_answers(const metrics::Calibration& fit, const KnownScores& known) {
  RightAnswers out;
  for (std::size_t i = 0; i < known.truth.size(); ++i) {
    const bool said = fit.probability(known.score[i]) >= fit.threshold;
    out.positives += said && known.truth[i] == 1;
    out.negatives += !said && known.truth[i] == 0;
  }
  return out;
}

/// What a calibration is compared with: the probability that the contrastive temperature suggests,
/// sigmoid(exp(log_scale) * score).
inline double uncalibrated(double score, double log_scale) {
  return 1 / (1 + std::exp(-std::exp(log_scale) * score));
}

/// Positives and negatives that a label needs at least to be calibrated.
inline constexpr std::size_t fewest_to_calibrate = 10;

/// Fits one label. Where it cannot be, `why` says so.
inline std::optional<LabelCalibration> calibrate_label(const LabelPrompts& prompts,
                                                       const KnownScores& known, std::string& why) {
  const std::size_t positives = known.positives(), negatives = known.truth.size() - positives;
  if (positives < fewest_to_calibrate || negatives < fewest_to_calibrate) {
    why = std::to_string(positives) + " positives and " + std::to_string(negatives) +
          " negatives; " + std::to_string(fewest_to_calibrate) + " of each are needed";
    return std::nullopt;
  }
  const auto fit = metrics::fit_calibration(known.score, known.truth);
  if (!fit) {
    why = "its score does not rise with the label on these studies";
    return std::nullopt;
  }
  return LabelCalibration{prompts, *fit, positives, negatives};
}

}  // namespace hybridmed::task
