// Everything but the training itself.
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
  for (std::string line; std::getline(in, line);) {
    const io::Json row = io::parse_json(line, run + "/log.jsonl");
    const int stage = io::get<int>(row, "stage", run);
    const bool valid = io::get<std::string>(row, "kind", run) == "valid";
    int colour = 0;
    for (const char* name : {"cg", "cl", "sum", "cap", "dis"}) {
      if (!row.contains(name) || !row[name].is_number()) {
        ++colour;
        continue;
      }
      auto& curves = panels[static_cast<std::size_t>(stage - 1)].curves;
      const std::string title = std::string(name) + (valid ? " valid" : "");
      const auto [it, fresh] = index.emplace(std::pair(stage, title), curves.size());
      if (fresh) curves.push_back({title, {}, {}, valid, colour});
      curves[it->second].x.push_back(row["step"].get<double>()), curves[it->second].y.push_back(row[name].get<double>());
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
  train::RunConfig config = train::RunConfig::read(o.resume ? fs::path(o.run) / "config.json" : fs::path(o.config));
  for (const auto& s : o.overrides) {
    static const std::set<std::string> free{"data", "workers", "checkpoint_every", "keep_checkpoints"};
    if (const auto key = s.substr(0, s.find('=')); o.resume && !free.count(key))
      fail("app", "pretrain", "--set " + s + ": a resumed run keeps its configuration", "data, workers, checkpoint_every and keep_checkpoints may change");
    io::override_key(config, s);
  }
  if (o.resume && !o.init.empty()) fail("app", "pretrain", "--init: a resumed run goes on with its own weights", "leave out --resume, and name a new --run, to start from others");
  if (o.resume && common.seed >= 0) fail("app", "pretrain", "--seed: a resumed run keeps its seed");
  if (common.seed >= 0) config.seed = common.seed;
  try {
    config.validate();
  } catch (const Error& e) {
    fail("app", "pretrain", (o.resume ? o.run + "/config.json" : o.config) + (o.overrides.empty() ? "" : " with --set") + ": " + e.reason(), e.hint());
  }
  if (o.resume && !fs::is_directory(config.data)) fail("app", "pretrain", config.data + ": no such folder; it held the data when the run began", "--set data=FOLDER where it is now");
  set_threads(common);
  const train::TrainerOptions options{o.run, o.resume, o.init, o.stop_after, common.threads > 0 ? " --threads " + std::to_string(common.threads) : ""};
  return config.precision == "double" ? pretrain_double(config, options) : pretrain_float(config, options);
}

// ---- evaluate
static std::vector<std::string> decode_all(const Run& run, const task::Generated& g) {
  std::vector<std::string> out;
  for (const auto& ids : g.ids) out.push_back(data::clean_text(run.vocabulary.decode(ids), run.cleaning()));
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
  const Run run(o.run);
  const auto& c = run.config;
  const data::DataFolder folder(o.data, c.columns(), c.table);
  std::string split = o.split;
  if (split.empty() && folder.has_split("test")) split = "test";
  const std::string which = !folder.has_splits() ? "all studies (the folder has no splits)" : split.empty() ? "all studies (the folder has no split 'test')" : "split " + split;
  std::vector<data::Rejected> rejected;
  data::Dataset dataset(folder, folder.select(c.selection(split), &rejected), run.vocabulary, c.dataset());
  if (dataset.size() == 0)
    fail("app", "evaluate",
         o.data + ": no study to evaluate" + (split.empty() ? "" : " in split '" + split + "'") +
             (rejected.empty() ? "" : "; " + folder.table().source + ", " + rejected[0].place() + ": " + rejected[0].reason));
  const auto labels = folder.labels();
  std::vector<task::LabelPrompts> prompts;
  if (!o.prompts.empty()) {  // before the long work
    prompts = task::read_prompts(o.prompts);
    if (labels.names.empty()) fail("app", "evaluate", o.data + ": --prompts needs a labels.csv");
    for (const auto& p : prompts)
      if (std::find(labels.names.begin(), labels.names.end(), p.label) == labels.names.end()) fail("app", "evaluate", o.prompts + ": label '" + p.label + "' is no column of " + o.data + "/labels.csv");
  }
  const fs::path out = o.out.empty() ? fs::path(o.run) : fs::path(o.out);
  std::error_code ec;
  fs::create_directories(out, ec);
  if (ec) fail("app", "evaluate", out.string() + ": the folder cannot be made: " + ec.message());
  std::cout << "run       " << o.run << " (" << run.weights.string() << ")\ndata      " << o.data << ", " << which << ", " << dataset.size() << " studies\n";
  if (!rejected.empty()) std::cout << "left out  " << rejected.size() << " rows (first: " << rejected[0].place() << ": " << rejected[0].reason << ")\n";
  std::cout << std::flush;

  std::vector<task::Figure> figures;
  train::ProgressLine line;
  const auto batch = static_cast<std::size_t>(c.batch);
  const auto embeddings = task::embed_dataset<float, B>(run.model, dataset, batch, static_cast<int>(c.workers), [&](std::size_t done, std::size_t total) {
    line.update("embedding", static_cast<double>(done), static_cast<double>(total), "studies", "", done == total);
  });
  line.finish();

  std::set<std::uint64_t> seen;
  std::ifstream hashes(run.folder / "seen_impressions.txt");
  for (std::uint64_t h; hashes >> h;) seen.insert(h);

  if (!prompts.empty()) {
    task::zero_shot_figures(prompts, task::zero_shot(run.model, run.vocabulary, run.cleaning(), prompts, embeddings), dataset.studies(), labels, figures);
  }
  task::retrieval_figures(embeddings.image, embeddings.text, dataset, seen, figures);

  // Impressions from images and from findings, for the studies that have an impression to compare with.
  std::string constant;
  std::ifstream frequent(run.folder / "most_frequent_impression.txt");
  std::getline(frequent, constant);
  std::vector<std::string> captions, caption_truth, summaries, summary_truth;
  const task::GenerateOptions generate{c.model.t_impression - 1, true};
  data::Loader loader(dataset, {batch, false, false, static_cast<int>(c.workers)}, Philox(), 0);
  std::size_t done = 0;
  while (auto host = loader.next()) {
    const auto caption = decode_all(run, task::caption(run.model, data::upload_images<float, B>(host->images), generate));
    const auto summary = decode_all(run, task::summarize<float, B>(run.model, host->findings_view(), generate));
    for (std::size_t i = 0; i < host->studies.size(); ++i) {
      const auto& s = dataset.study(host->studies[i]);
      if (s.impression.empty()) continue;
      captions.push_back(caption[i]), caption_truth.push_back(s.impression);
      if (!s.findings.empty()) summaries.push_back(summary[i]), summary_truth.push_back(s.impression);
    }
    done += host->studies.size();
    line.update("writing", static_cast<double>(done), static_cast<double>(dataset.size()), "studies", "", done == dataset.size());
  }
  line.finish();
  if (!captions.empty()) task::text_figures("caption", captions, caption_truth, constant, figures);
  if (!summaries.empty()) task::text_figures("summary", summaries, summary_truth, constant, figures);

  const auto boxes = task::planted_boxes(folder, dataset);
  if (!boxes.empty()) {
    std::vector<std::string> sentences;
    for (const auto& box : boxes) sentences.push_back(box.text);
    const auto texts = task::encode_texts<float, B>(run.model, run.vocabulary, sentences, run.cleaning());
    task::pointing_figures(boxes, embeddings.regions, run.model.aggregator.grid, texts, c.model.gamma1, figures);
    draw_attention(run, dataset, boxes, embeddings.regions, texts, (out / "attention.png").string());
    std::cout << "pictures  " << (out / "attention.png").string() << "\n";
  }
  io::write_text_atomically(out / "evaluation.json", task::to_json(figures).dump(1) + "\n");
  std::cout << "figures   " << (out / "evaluation.json").string() << "\n\n" << task::to_table(figures) << std::flush;
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
        read.push_back(run.read_image(images[k]));
        paths.emplace_back(images[k]);
      } catch (const Error& e) {
        std::cerr << e.what() << "\n";
        code = 1;
      }
    if (!paths.empty()) f(paths, run.upload(read));
  }
  return code;
}

int run_caption(const ImagesOptions& o) {
  const Run run(o.run);
  return in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto texts = decode_all(run, task::caption(run.model, images, {run.config.model.t_impression - 1, true}));
    for (std::size_t i = 0; i < paths.size(); ++i) std::cout << paths[i].string() << "\t" << texts[i] << "\n";
  });
}

int run_summarize(const std::string& folder) {
  const Run run(folder);
  for (std::string line; std::getline(std::cin, line);) {
    const auto ids = run.vocabulary.encode_section(data::clean_text(line, run.cleaning()), static_cast<std::size_t>(run.config.model.t_findings));
    const std::vector<std::int32_t> offsets{0, static_cast<std::int32_t>(ids.size())};
    std::cout << (ids.empty() ? "" : decode_all(run, task::summarize<float, B>(run.model, {ids, offsets}, {run.config.model.t_impression - 1, true}))[0]) << "\n" << std::flush;
  }
  return 0;
}

int run_classify(const ImagesOptions& o) {
  const Run run(o.run);
  const auto prompts = task::read_prompts(o.prompts);
  std::cout << "image";
  for (const auto& p : prompts) std::cout << "," << data::csv_field(p.label);
  std::cout << "\n";
  return in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto scores = task::zero_shot(run.model, run.vocabulary, run.cleaning(), prompts, task::embed_images<float, B>(run.model, images));
    for (std::size_t i = 0; i < paths.size(); ++i) {
      std::cout << data::csv_field(paths[i].string());
      for (std::size_t k = 0; k < prompts.size(); ++k) std::cout << "," << scores.both(i, k);
      std::cout << "\n";
    }
  });
}

int run_embed(const ImagesOptions& o) {
  const Run run(o.run);
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
  const Run run(o.run);
  using X = Tensor<float, B>;
  const X image = run.load_images({o.image});
  const auto texts = task::encode_texts<float, B>(run.model, run.vocabulary, {o.prompt}, run.cleaning());
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
int run_check(const CheckOptions& o) {
  train::RunConfig config;
  if (!o.config.empty()) config = train::RunConfig::read(o.config);
  const data::DataFolder folder(o.data, config.columns(), config.table);
  std::vector<data::Rejected> rejected;
  data::StudySelection all = config.selection("");
  all.needs_both = false;  // missing sections are counted
  const auto studies = folder.select(all, &rejected);
  std::size_t findings = 0, impression = 0, both = 0, images = 0, several = 0;
  std::map<std::string, std::size_t> f_texts, i_texts;
  std::vector<std::size_t> f_words, i_words;
  std::map<std::uint64_t, std::size_t> pictures;  // by the hash of their bytes
  bool damaged = false;
  train::ProgressLine line;
  std::size_t done = 0;
  for (const auto& s : studies) {
    findings += !s.findings.empty(), impression += !s.impression.empty(), both += !s.findings.empty() && !s.impression.empty();
    images += s.images.size(), several += s.images.size() > 1;
    if (!s.findings.empty()) ++f_texts[s.findings], f_words.push_back(metrics::split_words(s.findings).size());
    if (!s.impression.empty()) ++i_texts[s.impression], i_words.push_back(metrics::split_words(s.impression).size());
    for (const auto& name : s.images) try {
        const std::string bytes = io::read_text(folder.image_path(name));
        data::decode_image(std::as_bytes(std::span(bytes)), folder.image_path(name).string());
        ++pictures[train::text_hash(bytes)];
      } catch (const Error& e) {
        rejected.push_back({s.id, s.line, e.what()});
        damaged = true;
      }
    ++done;
    line.update("reading", static_cast<double>(done), static_cast<double>(studies.size()), "studies", "", done == studies.size());
  }
  line.finish();
  std::cout << "studies             " << studies.size() << " of " << folder.table().rows.size() << " rows\n"
            << "images              " << images << " (" << several << " studies have several)\n"
            << "duplicate images    " << std::accumulate(pictures.begin(), pictures.end(), std::size_t{0}, [](std::size_t n, const auto& p) { return n + p.second - 1; }) << "\n"
            << "findings            " << findings << ", missing in " << studies.size() - findings << "\n"
            << "impression          " << impression << ", missing in " << studies.size() - impression << "\n"
            << "both sections       " << both << "\n"
            << "distinct findings   " << f_texts.size() << "\n"
            << "distinct impressions " << i_texts.size() << "\n";
  for (auto& [name, words] : {std::pair<const char*, std::vector<std::size_t>&>{"findings words", f_words}, {"impression words", i_words}}) {
    if (words.empty()) continue;
    std::sort(words.begin(), words.end());
    std::cout << name << " ";
    for (int q : {0, 5, 25, 50, 75, 95, 99, 100}) std::cout << "  p" << q << " " << words[(words.size() - 1) * static_cast<std::size_t>(q) / 100];
    std::cout << "\n";
  }
  if (!folder.has_splits()) std::cout << "splits              none\n";
  for (const std::string& split : {config.split_train, config.split_valid, std::string("test")}) {
    if (!folder.has_split(split)) continue;
    data::StudySelection s = all;
    s.split = split;
    std::vector<data::Rejected> here;
    const std::size_t size = folder.select(s, &here).size();
    std::cout << std::left << std::setw(20) << "split " + split << size << "\n";
    std::copy_if(here.begin(), here.end(), std::back_inserter(rejected), [](const auto& r) { return r.line == 0; });  // the others are known
  }
  std::cout << "rejected            " << rejected.size() << "\n";
  for (const auto& r : rejected) std::cout << "  " << r.place() << ": " << r.reason << "\n";
  return damaged ? 1 : 0;
}

int run_phantom(const Common& common, const PhantomCommand& o) {
  data::PhantomOptions p;
  p.count = o.count, p.side = o.side, p.seed = common.seed > 0 ? static_cast<std::uint64_t>(common.seed) : 0;
  data::write_phantoms(o.out, p);
  std::cerr << o.count << " phantoms in " << o.out << "\n";
  return 0;
}

}  // namespace hybridmed::app
