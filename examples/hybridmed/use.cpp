// Everything but the training itself.
#include <charconv>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <numeric>

#include "commands.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/picture/curves.hpp"
#include "hybridmed/picture/overlay.hpp"
#include "hybridmed/task/evaluation.hpp"
#include "hybridmed/train/trainer.hpp"

namespace hybridmed::app {

using B = CpuBackend;
using Run = train::TrainedRun<float, B>;
namespace fs = std::filesystem;

void set_threads(const Common& c) {
  if (c.threads > 0) B::set_threads(c.threads);
}

void interrupt() { train::interrupted() = true; }

// ---- curves
int run_curves(const std::string& run) {
  std::array<picture::Panel, 2> panels{{{"stage 1", {}}, {"stage 2", {}}}};
  std::map<std::pair<int, std::string>, std::size_t> index;
  std::ifstream in(fs::path(run) / "log.jsonl");
  if (!in) fail("app", "curves", run + ": no log.jsonl");
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string where = run + "/log.jsonl, line " + std::to_string(number);
    const io::Json row = io::parse_json(line, where);
    const auto stage = io::get<std::int64_t>(row, "stage", where);
    if (stage != 1 && stage != 2) fail("app", "curves", where + ": expected stage 1 or 2, got " + row["stage"].dump());
    const bool valid = io::get<std::string>(row, "kind", where) == "valid";
    int colour = 0;
    for (const char* name : {"cg", "cl", "sum", "cap", "dis"}) {
      if (!row.contains(name) || !row[name].is_number()) {
        ++colour;
        continue;
      }
      auto& curves = panels[static_cast<std::size_t>(stage - 1)].curves;
      const std::string title = std::string(name) + (valid ? " valid" : "");
      const auto [it, fresh] = index.emplace(std::pair(static_cast<int>(stage), title), curves.size());
      if (fresh) curves.push_back({title, {}, {}, valid, colour});
      curves[it->second].x.push_back(io::get<double>(row, "step", where)), curves[it->second].y.push_back(row[name].get<double>());
      ++colour;
    }
  }
  std::vector<picture::Panel> drawn;
  for (auto& p : panels) {
    for (auto& c : p.curves)  // long step curves: averages of runs of steps
      if (const std::size_t n = (c.x.size() + 199) / 200; n > 1 && !c.dashed) {
        picture::Curve thin{c.name, {}, {}, c.dashed, c.colour};
        for (std::size_t i = 0; i + n <= c.x.size(); i += n) {
          double s = 0;
          for (std::size_t k = 0; k < n; ++k) s += c.y[i + k] / static_cast<double>(n);
          thin.x.push_back(c.x[i + n - 1]), thin.y.push_back(s);
        }
        c = std::move(thin);
      }
    if (!p.curves.empty()) drawn.push_back(p);
  }
  if (drawn.empty()) fail("app", "curves", run + "/log.jsonl: no step was logged");
  const auto path = fs::path(run) / "curves.png";
  picture::draw_curves(path.string(), drawn, "step");
  std::cerr << "loss curves: " << path.string() << "\n";
  return 0;
}

// ---- pretrain
int run_pretrain(const Common& common, const PretrainOptions& o) {
  if (o.config.empty() && !o.resume) fail("app", "pretrain", "--config is needed", "or --resume to go on with a run");
  if (o.resume && !fs::exists(fs::path(o.run) / "config.json")) fail("app", "pretrain", o.run + ": no run to resume: it has no config.json", "start it with --config FILE and without --resume");
  // A resumed run may be given its configuration again: the trainer refuses what differs from what it began with, key by key.
  train::RunConfig config = train::RunConfig::read(o.config.empty() ? fs::path(o.run) / "config.json" : fs::path(o.config));
  for (const auto& s : o.overrides) io::override_key(config, s);
  if (o.resume && !o.init.empty()) fail("app", "pretrain", "--init: a resumed run goes on with its own weights", "leave out --resume, and name a new --run, to start from others");
  if (common.seed >= 0) config.seed = common.seed;
  try {
    config.validate();
  } catch (const Error& e) {
    fail("app", "pretrain", (o.config.empty() ? o.run + "/config.json" : o.config) + (o.overrides.empty() ? "" : " with --set") + ": " + e.reason(), e.hint());
  }
  if (o.resume && !fs::is_directory(config.data)) fail("app", "pretrain", config.data + ": no such folder; it held the data when the run began", "--set data=FOLDER where it is now");
  set_threads(common);
  const train::TrainerOptions options{o.run, o.resume, o.init, o.stop_after, common.threads > 0 ? " --threads " + std::to_string(common.threads) : ""};
  return config.precision == "double" ? pretrain_double(config, options) : pretrain_float(config, options);
}

// ---- evaluate
static std::vector<std::string> decode_all(const Run& run, const task::Generated& g) {
  std::vector<std::string> out;
  for (const auto& ids : g.ids) out.push_back(run.vocabulary.decode(ids));
  return out;
}

/// The hashes in a file that the run wrote when it began, one a line.
static std::set<std::uint64_t> hashes_of(const Run& run, const char* name) {
  std::set<std::uint64_t> out;
  const auto file = run.folder / name;
  std::size_t number = 0;
  for (const auto& line : data::split_names(io::read_text(file), "\n")) {
    ++number;
    std::uint64_t h = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), h);
    if (error != std::errc() || end != line.data() + line.size()) fail("app", "run", file.string() + ", entry " + std::to_string(number) + ": expected a hash, got '" + line.substr(0, 40) + "'", "give back the file that the run wrote");
    out.insert(h);
  }
  return out;
}

/// The most frequent impression of the training split, whole; empty where the run has none.
/// @throws Error where the file holds anything else.
static std::string most_frequent_impression(const Run& run, const std::set<std::uint64_t>& seen) {
  const auto file = run.folder / "most_frequent_impression.txt";
  std::string text = io::read_text(file);
  if (text.ends_with('\n')) text.pop_back();
  if (text.empty() ? !seen.empty() : !seen.count(train::text_hash(text)))
    fail("app", "run", file.string() + ": its text is not among the training impressions of " + (run.folder / "seen_impressions.txt").string(), "give back the files that the run wrote");
  return text;
}

/// Opens a run and says what its weights file holds besides the model.
static Run open_run(const std::string& folder) {
  Run run(folder);
  if (!run.unused.empty()) std::cerr << "note: " << run.weights.string() << ": " << run.unused.size() << " tensors are not used: " << train::first_of(run.unused) << "\n";
  return run;
}

/// Says what the cleaning takes from these texts. `what`: "the prompts".
static void note_lost(const std::vector<std::string>& texts, data::Cleaning cleaning, const std::string& what) {
  data::CleaningLoss loss;
  for (const auto& text : texts) loss += data::cleaning_loss(text, cleaning);
  if (loss.letters > 0) std::cerr << "note: " << loss.letters << " letters and digits beyond ASCII in " << what << " are dropped by the run's cleaning\n";
  if (loss.bytes > 0) std::cerr << "note: " << loss.bytes << " bytes in " << what << " are no UTF-8 and cannot be read\n";
}
static void note_lost(const std::vector<task::LabelPrompts>& prompts, data::Cleaning cleaning) {
  for (const auto& p : prompts)
    for (const auto* side : {&p.positive, &p.negative}) note_lost(*side, cleaning, "the prompts of '" + p.label + "'");
}

/// Says how many texts are longer than the model reads.
static void note_cut(const task::EncodedTexts<float, B>& texts, const char* what) {
  if (texts.cut > 0) std::cerr << "note: " << texts.cut << " " << what << " are longer than the model reads, and cut\n";
}

/// The rows of `from` that `ids` name, in their order.
static xt::xtensor<double, 2> rows_of(const xt::xtensor<double, 2>& from, const std::vector<std::size_t>& ids) {
  auto out = xt::xtensor<double, 2>::from_shape({ids.size(), from.shape()[1]});
  for (std::size_t i = 0; i < ids.size(); ++i)
    for (std::size_t c = 0; c < from.shape()[1]; ++c) out(i, c) = from(ids[i], c);
  return out;
}

/// What is to be known of the labels before they count: who has none, what is left open, who is listed twice.
static std::vector<std::string> label_notes(const data::Labels& labels, const std::vector<data::Study>& studies, const std::vector<task::LabelPrompts>& prompts) {
  std::vector<std::string> out;
  std::size_t with = 0;
  std::map<std::string, std::pair<std::size_t, std::size_t>> open;  // label -> uncertain, unknown
  for (const auto& s : studies) {
    const auto it = labels.of.find(s.id);
    if (it == labels.of.end()) continue;
    ++with;
    for (const auto& p : prompts) {
      const int v = it->second[labels.at(p.label)];
      open[p.label].first += v == data::Labels::uncertain, open[p.label].second += v == data::Labels::unknown;
    }
  }
  out.push_back(std::to_string(with) + " of " + std::to_string(studies.size()) + " studies with an image have a row in labels.csv" + (with < studies.size() ? "; the others do not count for the labels" : ""));
  for (const auto& [label, n] : open)
    if (n.first + n.second > 0) out.push_back(label + ": " + std::to_string(n.first) + " uncertain and " + std::to_string(n.second) + " unknown, left out for this label");
  return out;
}

/// Up to three findings of each label with the map of their sentence and their box.
static void draw_attention(const Run& run, const data::Dataset& dataset, const std::vector<task::PlantedBox>& boxes, const std::vector<Tensor<float, B>>& regions,
                           const task::EncodedTexts<float, B>& texts, const std::string& path) {
  std::vector<picture::Tile> tiles;
  const auto& m = run.config.model;
  std::map<std::string, int> drawn;
  for (std::size_t k = 0; k < boxes.size(); ++k) {
    const auto& box = boxes[k];
    if (drawn[box.label]++ >= 3) continue;
    const auto maps = task::maps_of(box, regions, m.grid, texts, static_cast<Index>(k), m.gamma1);
    const auto host = dataset.batch({box.study}, nullptr);
    tiles.push_back({box.text, std::vector<float>(host.images.begin(), host.images.end()), static_cast<int>(m.image_size), maps.text, static_cast<int>(m.grid), {box.x, box.y, box.width, box.height}});
  }
  picture::draw_sheet(path, "Where each finding's sentence looks (green: the planted finding)", tiles, 4);
}

int run_evaluate(const EvaluateOptions& o) {
  const Run run = open_run(o.run);
  const auto& c = run.config;
  const data::DataFolder folder(o.data, c.columns(), c.table);
  std::string split = o.split;
  if (split.empty() && folder.has_split("test")) split = "test";
  const std::string which = !folder.has_splits() ? "all studies (the folder has no splits)" : split.empty() ? "all studies (the folder has no split 'test')" : "split " + split;
  // Images and labels need no text: zero-shot looks at every study with an image, retrieval and generation at those of the run's sections.
  std::vector<data::Rejected> rejected;
  data::StudySelection with_image = c.selection(split);
  with_image.needs_both = with_image.needs_text = false;
  const data::Dataset dataset(folder, folder.select(with_image, &rejected), run.vocabulary, c.dataset());
  if (dataset.size() == 0)
    fail("app", "evaluate",
         o.data + ": no study to evaluate" + (split.empty() ? "" : " in split '" + split + "'") +
             (rejected.empty() ? "" : "; " + folder.table().source + ", " + rejected[0].place() + ": " + rejected[0].reason));
  std::vector<data::Rejected> without_text;
  std::vector<data::Study> read;
  if (folder.has_texts()) read = folder.select(c.selection(split), &without_text);
  const data::Dataset texts_of(folder, read, run.vocabulary, c.dataset());  // for its texts and keys; pictures come from `dataset`
  std::map<std::string, std::size_t> row_of;
  for (std::size_t i = 0; i < dataset.size(); ++i) row_of[dataset.study(i).id] = i;
  std::vector<std::size_t> with_text;
  for (const auto& s : read) with_text.push_back(row_of.at(s.id));

  std::vector<task::LabelPrompts> prompts;
  std::vector<std::string> mean_of;
  data::Labels labels;
  if (!o.prompts.empty()) {  // before the long work
    prompts = task::read_prompts(o.prompts), mean_of = task::read_mean_of(o.prompts);
    labels = folder.labels();
    if (labels.source.empty()) fail("app", "evaluate", o.data + ": --prompts needs a labels.csv");
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
  std::cout << "run         " << o.run << " (" << run.weights.string() << ")\ndata        " << o.data << ", " << which << ", " << dataset.size() << " studies with an image, " << read.size() << " of them with texts\n";
  if (!folder.has_texts()) std::cout << "texts       none read: " << folder.table().source << " has no column " << train::first_of(folder.absent_texts()) << "\n";
  else if (!without_text.empty()) std::cout << "texts       " << without_text.size() << " studies have no part in retrieval and writing (first: " << without_text[0].place() << ": " << without_text[0].reason << ")\n";
  if (!rejected.empty()) std::cout << "left out    " << rejected.size() << " rows (first: " << rejected[0].place() << ": " << rejected[0].reason << ")\n";
  std::cout << train::titled("leakage", train::leakage(folder));
  const auto seen = hashes_of(run, "seen_impressions.txt");  // what a run wrote is read before the long work
  const std::string constant = most_frequent_impression(run, seen);
  const bool knows = fs::exists(run.folder / "trained_studies.txt");
  if (!knows) std::cout << "leakage     cannot be told: " << (run.folder / "trained_studies.txt").string() << " is missing\n";
  const auto trained = knows ? hashes_of(run, "trained_studies.txt") : std::set<std::uint64_t>();
  if (knows && trained.empty()) fail("app", "run", (run.folder / "trained_studies.txt").string() + ": an empty file", "give back the file that the run wrote");
  const auto known = std::count_if(dataset.studies().begin(), dataset.studies().end(), [&](const auto& s) { return trained.count(train::text_hash(s.id)) > 0; });
  if (known > 0) std::cout << "leakage     the run was trained on " << known << " of these " << dataset.size() << " studies: their figures are not held out\n";
  if (!prompts.empty()) std::cout << train::titled("labels", label_notes(labels, dataset.studies(), prompts));
  std::cout << train::titled("texts", train::lost_letters(read, run.cleaning())) << train::titled("texts", train::cut_texts(texts_of)) << std::flush;

  std::vector<task::Figure> figures;
  train::ProgressLine line;
  const auto batch = static_cast<std::size_t>(c.batch);
  const auto embeddings = task::embed_dataset<float, B>(run.model, dataset, batch, static_cast<int>(c.workers), [&](std::size_t done, std::size_t total) {
    line.update("embedding", static_cast<double>(done), static_cast<double>(total), "studies", "", done == total);
  });
  line.finish();
  if (!prompts.empty()) {
    note_lost(prompts, run.cleaning());
    const auto encoded = task::encode_prompts<float, B>(run.model, run.vocabulary, run.cleaning(), prompts);
    note_cut(encoded.texts, "prompts");
    task::zero_shot_figures(prompts, task::zero_shot(run.model, encoded, embeddings), dataset.studies(), labels, figures, mean_of);
  }
  task::retrieval_figures(rows_of(embeddings.image, with_text), rows_of(embeddings.text, with_text), texts_of, seen, figures);

  // Impressions from images and from findings, for the studies that have an impression to compare with.
  std::vector<std::string> captions, caption_truth, summaries, summary_truth;
  const task::GenerateOptions generate{c.model.t_impression - 1, true};
  for (std::size_t done = 0; done < with_text.size();) {
    const std::size_t end = (std::min)(done + batch, with_text.size());
    const auto host = dataset.batch({with_text.begin() + static_cast<std::ptrdiff_t>(done), with_text.begin() + static_cast<std::ptrdiff_t>(end)}, nullptr);
    const auto caption = decode_all(run, task::caption(run.model, data::upload_images<float, B>(host.images), generate));
    const auto summary = decode_all(run, task::summarize<float, B>(run.model, host.findings_view(), generate));
    for (std::size_t i = 0; i < host.studies.size(); ++i) {
      const auto& s = dataset.study(host.studies[i]);
      if (s.impression.empty()) continue;
      captions.push_back(caption[i]), caption_truth.push_back(s.impression);
      if (!s.findings.empty()) summaries.push_back(summary[i]), summary_truth.push_back(s.impression);
    }
    done = end;
    line.update("writing", static_cast<double>(done), static_cast<double>(with_text.size()), "studies", "", done == with_text.size());
  }
  line.finish();
  if (!captions.empty()) task::text_figures("caption", captions, caption_truth, constant, figures);
  if (!summaries.empty()) task::text_figures("summary", summaries, summary_truth, constant, figures);

  const auto boxes = task::planted_boxes(folder, dataset);
  std::optional<task::EncodedTexts<float, B>> box_texts;
  if (!boxes.empty()) {
    std::vector<std::string> sentences;
    for (const auto& box : boxes) sentences.push_back(box.text);
    box_texts = task::encode_texts<float, B>(run.model, run.vocabulary, sentences, run.cleaning());
    note_cut(*box_texts, "sentences of boxes.csv");
    task::pointing_figures(boxes, embeddings.regions, run.model.aggregator.grid, *box_texts, c.model.gamma1, figures);
  }
  io::write_text_atomically(out / "evaluation.json", task::to_json(figures).dump(1) + "\n");  // before the pictures: they can be drawn again
  std::cout << "figures     " << (out / "evaluation.json").string() << "\n";
  if (box_texts) {
    draw_attention(run, dataset, boxes, embeddings.regions, *box_texts, (out / "attention.png").string());
    std::cout << "pictures    " << (out / "attention.png").string() << "\n";
  }
  std::cout << "\n" << task::to_table(figures);
  for (const auto& f : figures)
    if (f.name.ends_with("both/mean of labels with n >= 10") || f.name.ends_with("both/mean of the labels listed"))
      std::cout << "the mean holds " << f.labels.size() << " labels: " << (f.labels.empty() ? "none" : std::accumulate(std::next(f.labels.begin()), f.labels.end(), f.labels.front(), [](const auto& a, const auto& b) { return a + ", " + b; })) << "\n";
  const auto noted = dataset.noted_pictures();
  if (noted.first > 0) std::cout << "pictures: " << noted.first << " are odd; the first: " << noted.second << "\n";
  for (const std::string& warning : {task::collapse_warning("captions", captions, constant), task::collapse_warning("summaries", summaries, constant)})
    if (!warning.empty()) std::cout << "warning: " << warning << "\n";
  std::cout << std::flush;
  return 0;
}

// ---- use of a trained run
/// Calls f(paths of a batch, images) in batches of at most 16. An image that cannot be read is named on stderr and left out; the
/// exit code is 1 then.
template <class F>
static int in_batches(const Run& run, const std::vector<std::string>& images, F&& f) {
  int code = 0;
  for (std::size_t i = 0; i < images.size(); i += 16) {
    std::vector<fs::path> paths;
    std::vector<xt::xtensor<float, 2>> read;
    for (std::size_t k = i; k < std::min(images.size(), i + 16); ++k) try {
        std::vector<std::string> notes;
        read.push_back(run.read_image(images[k], &notes));
        paths.emplace_back(images[k]);
        for (const auto& note : notes) std::cerr << "note: " << note << "\n";
      } catch (const Error& e) {
        std::cerr << e.what() << "\n";
        code = 1;
      }
    if (!paths.empty()) f(paths, run.upload(read));
  }
  return code;
}

int run_caption(const ImagesOptions& o) {
  const Run run = open_run(o.run);
  std::vector<std::string> all;
  const int code = in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto texts = decode_all(run, task::caption(run.model, images, {run.config.model.t_impression - 1, true}));
    for (std::size_t i = 0; i < paths.size(); ++i) std::cout << paths[i].string() << "\t" << texts[i] << "\n";
    all.insert(all.end(), texts.begin(), texts.end());
  });
  std::cout << std::flush;
  if (const std::string warning = task::collapse_warning("captions", all, most_frequent_impression(run, hashes_of(run, "seen_impressions.txt"))); !warning.empty()) std::cerr << "warning: " << warning << "\n";
  return code;
}

int run_summarize(const std::string& folder) {
  const Run run = open_run(folder);
  std::size_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    bool cut = false;
    ++number;
    const std::string place = "line " + std::to_string(number);
    note_lost({line}, run.cleaning(), place);
    const auto ids = run.vocabulary.encode_section(data::clean_text(line, run.cleaning()), static_cast<std::size_t>(run.config.model.t_findings), &cut);
    if (ids.empty()) std::cerr << "note: " << place << " has no words after cleaning, so its answer is empty\n";
    if (cut) std::cerr << "note: " << place << " is cut to t_findings = " << run.config.model.t_findings << " tokens\n";
    const std::vector<std::int32_t> offsets{0, static_cast<std::int32_t>(ids.size())};
    std::cout << (ids.empty() ? "" : decode_all(run, task::summarize<float, B>(run.model, {ids, offsets}, {run.config.model.t_impression - 1, true}))[0]) << "\n" << std::flush;
  }
  return 0;
}

int run_classify(const ImagesOptions& o) {
  const Run run = open_run(o.run);
  const auto prompts = task::read_prompts(o.prompts);
  note_lost(prompts, run.cleaning());
  const auto encoded = task::encode_prompts<float, B>(run.model, run.vocabulary, run.cleaning(), prompts);
  note_cut(encoded.texts, "prompts");
  std::cout << "image";
  for (const auto& p : prompts) std::cout << "," << data::csv_field(p.label);
  std::cout << "\n";
  return in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto scores = task::zero_shot(run.model, encoded, task::embed_images<float, B>(run.model, images));
    for (std::size_t i = 0; i < paths.size(); ++i) {
      std::cout << data::csv_field(paths[i].string());
      for (std::size_t k = 0; k < prompts.size(); ++k) std::cout << "," << scores.both(i, k);
      std::cout << "\n";
    }
  });
}

int run_embed(const ImagesOptions& o) {
  const Run run = open_run(o.run);
  std::cout << "image";
  for (Index k = 0; k < run.config.model.d_e; ++k) std::cout << ",e" << k;
  std::cout << "\n";
  return in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto e = task::embed_images<float, B>(run.model, images);
    for (std::size_t i = 0; i < paths.size(); ++i) {
      std::cout << data::csv_field(paths[i].string());
      for (std::size_t k = 0; k < e.image.shape()[1]; ++k) std::cout << "," << e.image(i, k);
      std::cout << "\n";
    }
  });
}

int run_attention(const AttentionOptions& o) {
  if (const auto parent = fs::path(o.out).parent_path(); !parent.empty() && !fs::is_directory(parent)) fail("app", "attention", o.out + ": " + parent.string() + " is no folder");
  const Run run = open_run(o.run);
  using X = Tensor<float, B>;
  const X image = run.load_images({o.image});
  note_lost({o.prompt}, run.cleaning(), "the prompt");
  const auto texts = task::encode_texts<float, B>(run.model, run.vocabulary, {o.prompt}, run.cleaning());
  if (texts.cut > 0) std::cerr << "note: the prompt is longer than the model reads, and cut\n";
  const auto maps = task::attention_maps(task::embed_images<float, B>(run.model, image).regions[0], texts.words, run.config.model.gamma1);
  const int side = static_cast<int>(run.config.model.image_size), grid = static_cast<int>(run.model.aggregator.grid);
  const auto pixels = image.row_slice(0, side).to_host();  // the first of three equal channels
  std::vector<picture::Tile> tiles{{"image", pixels, side, {}, 0, {}}, {"the text as a whole", pixels, side, maps.text, grid, {}}};
  const auto n = static_cast<std::size_t>(grid * grid);
  for (std::size_t t = 0; t < texts.tokens[0].size() && t < 30; ++t)
    tiles.push_back({run.vocabulary.token(texts.tokens[0][t]), pixels, side, std::vector<double>(maps.word.data() + t * n, maps.word.data() + (t + 1) * n), grid, {}});
  picture::draw_sheet(o.out, o.prompt, tiles, std::min<int>(6, static_cast<int>(tiles.size())));
  return 0;
}

// ---- data
/// What makes a picture suspicious besides what its reader notes: hardly any range.
static std::string narrow_range(const data::Image& image) {
  std::vector<std::uint16_t> values(image.pixels.begin(), image.pixels.end());
  const auto at = [&](double share) {
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), nth, values.end());
    return *nth;
  };
  const int low = at(0.01), high = at(0.99), full = image.bits == 16 ? 65535 : 255;
  if (high - low >= full / 50) return {};
  return "nearly constant: 98 % of its pixels lie between " + std::to_string(low) + " and " + std::to_string(high) + " of " + std::to_string(full);
}

/// The split of each study, the first where it has two.
static std::map<std::string, std::string> splits_of(const data::DataFolder& folder, data::StudySelection selection) {
  std::map<std::string, std::string> out;
  for (const auto& split : folder.splits()) {
    selection.split = split;
    for (const auto& s : folder.select(selection)) out.emplace(s.id, split);
  }
  return out;
}

struct TrainingProblem {
  std::string why;     // empty: pretrain takes the folder
  bool meant = false;  // is the folder meant for training, and not for an evaluation alone?
};
/// Why pretrain would refuse the texts and splits of this folder.
static TrainingProblem training_problem(const data::DataFolder& folder, const train::RunConfig& config) {
  const auto splits = folder.splits();
  const bool meant = folder.has_texts() && (splits.empty() ? folder.has_splits() : splits != std::set<std::string>{"test"});
  if (!folder.has_texts()) return {"it holds no reports", false};
  if (!folder.has_splits()) return {"it has no splits", false};
  for (const auto& split : {config.split_train, config.split_valid}) try {
      std::vector<data::Rejected> rejected;
      if (folder.select(config.selection(split), &rejected).empty())
        return {"no study is left in split '" + split + "'" + (rejected.empty() ? "" : "; " + rejected[0].place() + ": " + rejected[0].reason), meant};
    } catch (const Error& e) {
      return {e.reason() + (e.hint().empty() ? "" : "; " + e.hint()), meant};
    }
  return {};
}

int run_check(const CheckOptions& o) {
  train::RunConfig config;
  if (!o.config.empty()) config = train::RunConfig::read(o.config);
  const data::DataFolder folder(o.data, config.columns(), config.table);
  std::vector<data::Rejected> rejected;
  std::vector<std::string> suspicious;
  data::StudySelection all = config.selection("");
  all.needs_both = all.needs_text = false;  // missing sections are counted
  const auto studies = folder.select(all, &rejected);
  std::size_t findings = 0, impression = 0, both = 0, images = 0, several = 0, without_texts = 0;
  std::map<std::string, std::size_t> f_texts, i_texts;
  std::vector<std::size_t> f_words, i_words;
  std::map<std::uint64_t, std::vector<std::pair<std::string, std::string>>> pictures;  // by the hash of their pixels: name, study
  bool refused = false;                                        // is there something that later commands refuse?
  train::ProgressLine line;
  std::size_t done = 0;
  for (const auto& s : studies) {
    findings += !s.findings.empty(), impression += !s.impression.empty(), both += !s.findings.empty() && !s.impression.empty();
    without_texts += s.findings.empty() && s.impression.empty();
    images += s.images.size(), several += s.images.size() > 1;
    if (!s.findings.empty()) ++f_texts[s.findings], f_words.push_back(metrics::split_words(s.findings).size());
    if (!s.impression.empty()) ++i_texts[s.impression], i_words.push_back(metrics::split_words(s.impression).size());
    for (const auto& name : s.images) try {
        const data::Image image = data::read_image(folder.image_path(name));
        const auto shape = std::to_string(image.height()) + " " + std::to_string(image.width()) + " ";
        pictures[train::text_hash(shape + std::string(reinterpret_cast<const char*>(image.pixels.data()), image.pixels.size() * sizeof(std::uint16_t)))].emplace_back(name, s.id);
        for (const auto& note : image.notes) suspicious.push_back(name + ": " + note);
        if (const std::string narrow = narrow_range(image); !narrow.empty()) suspicious.push_back(name + ": " + narrow);
      } catch (const Error& e) {
        rejected.push_back({s.id, s.line, e.what()});
        refused = true;
      }
    ++done;
    line.update("reading", static_cast<double>(done), static_cast<double>(studies.size()), "studies", "", done == studies.size());
  }
  line.finish();
  std::size_t copies = 0;
  const std::map<std::string, std::string> split_of = splits_of(folder, all);
  std::vector<std::string> shared;  // by studies of two splits
  for (const auto& [hash, found] : pictures) {
    copies += found.size() - 1;
    if (found.size() == 1) continue;
    std::vector<std::string> others;
    std::set<std::string> splits;
    for (const auto& [name, study] : found) {
      others.push_back(name + " (study '" + study + "')");
      if (const auto it = split_of.find(study); it != split_of.end()) splits.insert(it->second);
    }
    const std::string first = others.front();
    others.erase(others.begin());
    suspicious.push_back(first + ": the same pixels as " + train::first_of(others));
    if (splits.size() > 1) shared.push_back("splits " + train::first_of(splits) + " share a picture: " + first + " and " + train::first_of(others));
  }
  if (!folder.has_texts())
    std::cout << "table               " << folder.table().source << (fs::exists(fs::path(o.data) / config.table) ? " has no column " + train::first_of(folder.absent_texts()) + ", so no reports" : ": there is no " + config.table + ", so its rows are the studies, without reports")
              << "; the names of table and columns can be set in --config\n";
  std::cout << "studies             " << studies.size() << " of " << folder.table().rows.size() << " rows\n"
            << "images              " << images << " (" << several << " studies have several)\n"
            << "duplicate images    " << copies << "\n"
            << "findings            " << findings << ", missing in " << studies.size() - findings << "\n"
            << "impression          " << impression << ", missing in " << studies.size() - impression << "\n"
            << "both sections       " << both << "\n"
            << "without texts       " << without_texts << "\n"
            << "distinct findings   " << f_texts.size() << "\n"
            << "distinct impressions " << i_texts.size() << "\n";
  for (auto& [name, words] : {std::pair<const char*, std::vector<std::size_t>&>{"findings words", f_words}, {"impression words", i_words}}) {
    if (words.empty()) continue;
    std::sort(words.begin(), words.end());
    std::cout << name << " ";
    for (int q : {0, 5, 25, 50, 75, 95, 99, 100}) std::cout << "  p" << q << " " << words[(words.size() - 1) * static_cast<std::size_t>(q) / 100];
    std::cout << "\n";
  }
  for (const auto& sentence : train::lost_letters(studies, all.cleaning)) std::cout << "texts               " << sentence << "\n";
  if (!folder.has_splits()) std::cout << "splits              none\n";
  for (const std::string& split : folder.splits()) {
    data::StudySelection s = all;
    s.split = split;
    std::vector<data::Rejected> here;
    const std::size_t size = folder.select(s, &here).size();
    std::cout << std::left << std::setw(20) << "split " + split << size << "\n";
    std::copy_if(here.begin(), here.end(), std::back_inserter(rejected), [](const auto& r) { return r.line == 0; });  // the others are known
  }
  const auto [why_not, meant] = training_problem(folder, config);
  if (!why_not.empty()) std::cout << "pretrain            would refuse this folder: " << why_not << "\n";
  refused = refused || (!why_not.empty() && meant);
  std::vector<std::string> leaks = train::leakage(folder);
  leaks.insert(leaks.end(), shared.begin(), shared.end());
  for (const auto& sentence : leaks) {
    std::cout << "leakage             " << sentence << "\n";
    refused = true;
  }
  std::vector<std::string> problems;
  const data::Labels labels = folder.labels(&problems);
  if (labels.source.empty()) {
    std::cout << "labels              none\n";
  } else {
    const auto with = std::count_if(studies.begin(), studies.end(), [&](const auto& s) { return labels.of.count(s.id) > 0; });
    std::cout << "labels              " << labels.names.size() << " columns; " << with << " of " << studies.size() << " studies have a row, " << labels.of.size() - static_cast<std::size_t>(with) << " rows have no study";
    if (labels.left_out > 0) std::cout << ", " << labels.left_out << " rows are not indexed";
    std::cout << "\n";
    for (std::size_t k = 0; k < labels.names.size(); ++k) {
      std::map<int, std::size_t> counts;
      for (const auto& s : studies)
        if (const auto it = labels.of.find(s.id); it != labels.of.end()) ++counts[it->second[k]];
      std::cout << "  " << std::left << std::setw(18) << labels.names[k] << counts[1] << " present, " << counts[0] << " absent, " << counts[data::Labels::uncertain] << " uncertain, " << counts[data::Labels::unknown] << " unknown\n";
    }
    for (const auto& [name, value] : labels.other_columns) std::cout << "  " << std::left << std::setw(18) << name << "no label column: it holds " << value << "\n";
    for (const auto& problem : problems) std::cout << "  " << problem << "\n";
    for (const auto& name : labels.spoiled) std::cout << "  " << name << ": most of its cells are labels; an evaluation refuses it as it is\n";
    refused = refused || labels.conflicts > 0 || !labels.spoiled.empty();
  }
  std::cout << "suspicious pictures " << suspicious.size() << "\n";
  for (const auto& s : suspicious) std::cout << "  " << s << "\n";
  std::cout << "rejected            " << rejected.size() << "\n";
  for (const auto& r : rejected) std::cout << "  " << r.place() << ": " << r.reason << "\n";
  return refused ? 1 : 0;
}

int run_phantom(const Common& common, const PhantomCommand& o) {
  data::PhantomOptions p;
  p.count = o.count, p.side = o.side, p.seed = common.seed > 0 ? static_cast<std::uint64_t>(common.seed) : 0;
  data::write_phantoms(o.out, p);
  std::cerr << o.count << " phantoms in " << o.out << "\n";
  return 0;
}

}  // namespace hybridmed::app
