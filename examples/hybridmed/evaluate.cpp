// Everything that is measured on a data folder.
#include <numeric>

#include "run.hpp"
#include "sheets.hpp"

namespace hybridmed::app {

/// The rows of `from` that `ids` name, in their order.
static xt::xtensor<double, 2> rows_of(const xt::xtensor<double, 2>& from,
                                      const std::vector<std::size_t>& ids) {
  auto out = xt::xtensor<double, 2>::from_shape({ids.size(), from.shape()[1]});
  for (std::size_t i = 0; i < ids.size(); ++i)
    for (std::size_t c = 0; c < from.shape()[1]; ++c) out(i, c) = from(ids[i], c);
  return out;
}

/// What is to be known of the labels before they count: who has none, what is left open, who is
/// listed twice.
static std::vector<std::string> label_notes(const data::Labels& labels,
                                            const std::vector<data::Study>& studies,
                                            const std::vector<task::LabelPrompts>& prompts) {
  std::vector<std::string> out;
  std::size_t with = 0;
  std::map<std::string, std::pair<std::size_t, std::size_t>> open;  // label -> uncertain, unknown
  std::map<std::string, std::size_t> positives;
  for (const auto& s : studies) {
    const auto it = labels.of.find(s.id);
    if (it == labels.of.end()) continue;
    ++with;
    for (const auto& p : prompts) {
      const int v = it->second[labels.at(p.label)];
      open[p.label].first += v == data::Labels::uncertain;
      open[p.label].second += v == data::Labels::unknown;
      positives[p.label] += v == 1;
    }
  }
  out.push_back(std::to_string(with) + " of " + std::to_string(studies.size()) +
                " studies with an image have a row in " +
                fs::path(labels.source).filename().string() +
                (with < studies.size() ? "; the others do not count for the labels" : ""));
  std::vector<std::string> unasked;
  for (const auto& name : labels.names)
    if (std::none_of(prompts.begin(), prompts.end(),
                     [&](const auto& p) { return p.label == name; }))
      unasked.push_back(name);
  if (!unasked.empty())
    out.push_back("labels without prompts, so not measured: " + train::first_of(unasked));
  for (const auto& [label, n] : open)
    if (n.first + n.second > 0)
      out.push_back(label + ": " + std::to_string(n.first) + " uncertain and " +
                    std::to_string(n.second) + " unknown, left out for this label");
  std::vector<std::string> rare;
  for (const auto& [label, n] : positives)
    if (n < task::least_positives) rare.push_back(label + " " + std::to_string(n));
  if (!rare.empty())
    out.push_back("no AUROC with fewer than " + std::to_string(task::least_positives) +
                  " positive studies: " + train::first_of(rare));
  return out;
}

/// Up to three findings of each label with the map of their sentence and their box; gives back the
/// files.
static std::vector<std::string> draw_attention(const Run& run, const data::DataFolder& folder,
                                               const data::Dataset& dataset,
                                               const std::vector<task::PlantedBox>& boxes,
                                               const std::vector<Tensor<float, Host>>& regions,
                                               const EncodedTexts& texts, const std::string& path) {
  picture::Sheet sheet{"Where the sentence of each finding looks (green: the planted finding)",
                       {"up to three studies a label; the thin line is what the model sees"},
                       "similarity of a region to the word of the sentence that suits it best",
                       {}};
  const auto& m = run.config.model;
  std::map<std::string, int> drawn;
  for (std::size_t k = 0; k < boxes.size(); ++k) {
    const auto& box = boxes[k];
    if (drawn[box.label]++ >= 3) continue;
    const auto& study = dataset.study(box.study);
    picture::Tile tile = tile_of(data::read_image(folder.image_path(study.images.front())),
                                 dataset.options().transform);
    tile.caption = study.id + ": " + box.text;
    tile.map = task::maps_of(box, regions, m.grid, texts, static_cast<Index>(k), m.gamma1).text;
    tile.grid = static_cast<int>(m.grid);
    tile.boxes = {{box.picture.x, box.picture.y, box.picture.width, box.picture.height}};
    sheet.tiles.push_back(std::move(tile));
  }
  return picture::draw_sheet(path, sheet);
}

/// What the figures are of: enough to make them again.
static io::Json description(const Common& common, const EvaluateOptions& o, const Run& run,
                            const std::string& split, std::size_t images, std::size_t texts,
                            const std::vector<task::Figure>& figures) {
  io::Json labels = io::Json::object();
  for (const auto& f : figures)
    if (!f.labels.empty()) labels[f.name] = f.labels;
  return {{"run", o.run},
          {"weights", run.weights.string()},
          {"weights_checksum", run.checksum},
          {"data", o.data},
          {"split", split},
          {"studies_with_image", images},
          {"studies_with_text", texts},
          {"prompts", o.prompts.empty() ? io::Json(nullptr) : io::Json(o.prompts)},
          {"labels_in_the_mean", labels},
          {"version", HYBRIDMED_VERSION},
          {"command", common.command}};
}

int run_evaluate(const Common& common, const EvaluateOptions& o) {
  const Run run = open_run(common, o.run);
  const auto& c = run.config;
  const data::DataFolder folder(o.data, folder_options(c.folder, o.tables));
  const std::string split = chosen_split(folder, o.split, "test");
  folder.need_images();
  const std::vector<task::BoxRow> box_rows = task::boxes_of(folder, run.cleaning());
  std::vector<std::string>
      notes;  // what is to be known of the figures: printed, and written beside them
  const auto note = [&](const std::string& title, const std::vector<std::string>& sentences) {
    for (const auto& sentence : sentences) notes.push_back(title + ": " + sentence);
    std::cout << train::titled(title, sentences);
  };
  const std::string which = !folder.has_splits() ? "all studies (the folder has no splits)"
                            : split.empty()      ? "all studies (the folder has no split 'test')"
                                                 : "split " + split;
  // Images and labels need no text: zero-shot looks at every study with an image, retrieval and
  // generation at those of the run's sections.
  std::vector<data::Rejected> rejected;
  data::StudySelection with_image = c.selection(split);
  with_image.needs_both = with_image.needs_text = false;
  const data::Dataset dataset(folder, folder.select(with_image, &rejected), run.vocabulary,
                              c.dataset());
  if (dataset.size() == 0)
    fail("app", "evaluate",
         o.data + ": no study to evaluate" + (split.empty() ? "" : " in split '" + split + "'") +
             (rejected.empty() ? ""
                               : "; " + folder.table().source + ", " + rejected[0].place() + ": " +
                                     rejected[0].reason));
  std::vector<data::Rejected> without_text;
  std::vector<data::Study> read;
  if (folder.has_texts()) read = folder.select(c.selection(split), &without_text);
  const data::Dataset texts_of(
      folder, read, run.vocabulary,
      c.dataset());  // for its texts and keys; pictures come from `dataset`
  std::map<std::string, std::size_t> row_of;
  for (std::size_t i = 0; i < dataset.size(); ++i) row_of[dataset.study(i).id] = i;
  std::vector<std::size_t> with_text;
  for (const auto& s : read) with_text.push_back(row_of.at(s.id));

  std::vector<task::LabelPrompts> prompts;
  std::vector<std::string> mean_of;
  data::Labels labels;
  if (!o.prompts.empty()) {  // before the long work
    prompts = task::read_prompts(o.prompts);
    mean_of = task::read_mean_of(o.prompts);
    labels = folder.labels();
    if (labels.source.empty())
      fail("app", "evaluate",
           o.data + ": --prompts needs labels: there is no " + folder.options().labels,
           "--set labels=FILE names another file");
    for (const auto& p : prompts) try {
        labels.at(p.label);
      } catch (const Error& e) {
        fail("app", "evaluate", o.prompts + ", label '" + p.label + "': " + e.reason(), e.hint());
      }
  }
  const fs::path out = o.out.empty() ? fs::path(o.run) : fs::path(o.out);
  std::error_code ec;
  fs::create_directories(out, ec);
  if (ec) fail("app", "evaluate", out.string() + ": the folder cannot be made: " + ec.message());
  io::need_writable(out / "evaluation.json");
  std::cout << "run         " << data::printable(o.run) << " ("
            << data::printable(run.weights.string()) << ")\ndata        " << data::printable(o.data)
            << ", " << which << ", " << dataset.size() << " studies with an image, " << read.size()
            << " of them with texts\n";
  if (!folder.has_texts())
    note("texts", {"none read: " + folder.table().source + " has no column " +
                   train::first_of(folder.absent_texts())});
  else if (!without_text.empty())
    note("texts", {std::to_string(without_text.size()) +
                   " studies have no part in retrieval and writing (first: " +
                   without_text[0].place() + ": " + without_text[0].reason + ")"});
  if (!rejected.empty())
    note("left out", {std::to_string(rejected.size()) + " rows (first: " + rejected[0].place() +
                      ": " + rejected[0].reason + ")"});
  note("leakage", train::leakage(folder));
  std::optional<task::RunCalibration> calibration;
  if (!prompts.empty()) try {
      calibration = task::read_calibration(run.folder);
    } catch (const Error& e) {
      note("calibration", {"does not count: " + e.reason()});
    }
  if (calibration && calibration->weights != run.checksum) {
    note("calibration",
         {task::calibration_file(run.folder).string() +
          " belongs to other weights, so it does not count: fit it again with 'calibrate'"});
    calibration.reset();
  } else if (calibration) {
    const auto here = std::count_if(prompts.begin(), prompts.end(),
                                    [&](const auto& p) { return calibration->of(p) != nullptr; });
    const std::set<std::uint64_t> fitted(calibration->studies.begin(), calibration->studies.end());
    const std::size_t both = known_studies(dataset, fitted);
    note("calibration",
         {"of " + std::to_string(here) + " of these " + std::to_string(prompts.size()) +
          " labels, fitted on " + calibration->data + ", " +
          (calibration->split.empty() ? "all studies" : "split " + calibration->split)});
    if (both > 0 && here > 0)
      note("calibration",
           {std::to_string(both) + " of these " + std::to_string(dataset.size()) +
            " studies have the ids of studies that it was fitted on: if they are the same, its "
            "figures are not held out"});
  }
  const auto seen =
      hashes_of(run, "seen_impressions.txt");  // what a run wrote is read before the long work
  const std::string constant = most_frequent_impression(run, seen);
  const bool knows = fs::exists(run.folder / "trained_studies.txt");
  if (!knows)
    note("leakage",
         {"cannot be told: " + (run.folder / "trained_studies.txt").string() + " is missing"});
  const auto trained = knows ? hashes_of(run, "trained_studies.txt") : std::set<std::uint64_t>();
  if (knows && trained.empty())
    fail("app", "run", (run.folder / "trained_studies.txt").string() + ": an empty file",
         "give back the file that the run wrote");
  if (const std::size_t known = known_studies(dataset, trained); known > 0)
    note("leakage", {std::to_string(known) + " of these " + std::to_string(dataset.size()) +
                     " studies have the ids of studies that the run was trained on: if they are "
                     "the same, their figures are not held out"});
  if (!split.empty() && data::split_key(split) == data::split_key(c.split_valid))
    note("split", {"the run chose its best weights by the split '" + split +
                   "', if this is the folder that it was trained on"});
  if (!prompts.empty()) note("labels", label_notes(labels, dataset.studies(), prompts));
  note("texts", train::lost_letters(dataset.studies(), run.cleaning(), /*fixed=*/true));
  note("texts", train::unknown_words(texts_of, run.vocabulary.unk));
  note("texts", train::cut_texts(texts_of));
  std::cout << std::flush;

  std::vector<task::Figure> figures;
  const auto batch = static_cast<std::size_t>(c.batch);
  const Embeddings embeddings = embed_dataset(run, dataset);
  if (!prompts.empty()) {
    const auto scores = run.model->zero_shot(encode_prompts(run, prompts), embeddings);
    task::zero_shot_figures(prompts, scores, dataset.studies(), labels, figures, mean_of);
    if (calibration)
      task::calibration_figures(*calibration, log_scale(run), prompts, scores, dataset.studies(),
                                labels, figures);
  }
  task::retrieval_figures(rows_of(embeddings.image, with_text), rows_of(embeddings.text, with_text),
                          texts_of, seen, figures);

  // Impressions from images and from findings, for the studies that have an impression to compare
  // with.
  std::vector<std::string> captions, caption_truth, summaries, summary_truth;
  train::ProgressLine line;
  const model::Parts& parts = run.system.parts;
  const bool writes = parts.captioning || parts.summarization;
  for (std::size_t done = 0; writes && done < with_text.size();) {
    const std::size_t end = (std::min)(done + batch, with_text.size());
    const auto host = dataset.batch({with_text.begin() + static_cast<std::ptrdiff_t>(done),
                                     with_text.begin() + static_cast<std::ptrdiff_t>(end)},
                                    nullptr);
    std::vector<std::string> written, summary;
    if (parts.captioning) written = caption(run, host.images);
    if (parts.summarization) summary = summarize(run, host.findings_view());
    for (std::size_t i = 0; i < host.studies.size(); ++i) {
      const auto& s = dataset.study(host.studies[i]);
      if (s.impression.empty()) continue;
      if (parts.captioning) {
        captions.push_back(written[i]);
        caption_truth.push_back(s.impression);
      }
      if (parts.summarization && !s.findings.empty()) {
        summaries.push_back(summary[i]);
        summary_truth.push_back(s.impression);
      }
    }
    done = end;
    line.update("writing", static_cast<double>(done), static_cast<double>(with_text.size()),
                "studies", "", done == with_text.size());
  }
  line.finish();
  if (!captions.empty()) task::text_figures("caption", captions, caption_truth, constant, figures);
  if (!summaries.empty())
    task::text_figures("summary", summaries, summary_truth, constant, figures);

  std::vector<task::PlantedBox> boxes;  // what compares no regions with words plays no such game
  if (parts.regions && parts.words) boxes = task::planted_boxes(box_rows, dataset);
  if (parts.regions && parts.words && boxes.empty() && !box_rows.empty())
    note("boxes",
         {task::boxes_file(folder).string() + ": none of its " + std::to_string(box_rows.size()) +
          " rows names a picture of these studies, so there is no pointing game"});
  std::optional<EncodedTexts> box_texts;
  if (!boxes.empty()) {
    std::vector<std::string> sentences;
    for (const auto& box : boxes) sentences.push_back(box.text);
    box_texts = encode_texts(run, sentences, "the sentences of boxes.csv");
    task::pointing_figures(boxes, embeddings.regions, c.model.grid, *box_texts, c.model.gamma1,
                           figures);
  }
  for (const std::string& warning : {task::collapse_warning("captions", captions, constant),
                                     task::collapse_warning("summaries", summaries, constant)})
    if (!warning.empty()) notes.push_back("warning: " + warning);
  io::Json written = description(common, o, run, which, dataset.size(), read.size(), figures);
  written["notes"] = notes;
  written["figures"] = task::to_json(figures);
  io::write_text_atomically(out / "evaluation.json",
                            written.dump(1, ' ', false, io::Json::error_handler_t::replace) +
                                "\n");  // before the pictures: they can be drawn again
  std::cout << "figures     " << data::printable((out / "evaluation.json").string()) << "\n";
  if (box_texts)
    for (const auto& file : draw_attention(run, folder, dataset, boxes, embeddings.regions,
                                           *box_texts, (out / "attention.png").string()))
      std::cout << "pictures    " << file << "\n";
  std::cout << "\n" << task::to_table(figures);
  for (const auto& f : figures)
    if (f.name.ends_with("both/mean of labels with n >= 10") ||
        f.name.ends_with("both/mean of the labels listed"))
      std::cout << "the mean holds " << f.labels.size() << " labels: "
                << (f.labels.empty()
                        ? "none"
                        : std::accumulate(
                              std::next(f.labels.begin()), f.labels.end(), f.labels.front(),
                              [](const auto& a, const auto& b) { return a + ", " + b; }))
                << "\n";
  const auto noted = dataset.noted_pictures();
  if (noted.first > 0)
    std::cout << "pictures: " << noted.first << " are odd; the first: " << noted.second << "\n";
  for (const auto& n : notes)
    if (n.starts_with("warning: ")) std::cout << n << "\n";
  std::cout << std::flush;
  return 0;
}

}  // namespace hybridmed::app
