// A trained run opened for use.
#include "run.hpp"

#include <charconv>
#include <utility>

namespace hybridmed::app {

Run open_run(const Common& common, const std::string& folder) {
  Run run(common.backend == "cuda" ? open_on_cuda(folder, common) : open_on_cpu(folder));
  const std::string from = run.weights.parent_path().filename().string();
  if (!run.finished())
    std::cerr << "note: the training of " << folder << " is not finished: these are the weights of "
              << from << ", so "
              << (from.starts_with("best-stage1") || !fs::exists(run.folder / "best-stage1.json")
                      ? "nothing that compares images with texts may have been trained yet"
                      : "they are not the best ones")
              << "\n";
  const std::string untaught =
      train::untaught(run.config, system::stages_of_system(run.config.system, run.config.model));
  if (!untaught.empty())
    std::cerr
        << "note: " << folder << " was trained without " << untaught
        << ": what nothing else teaches is as it was initialised, and its figures are those of "
           "chance\n";
  if (!run.unused.empty())
    std::cerr << "note: " << run.weights.string() << ": " << run.unused.size()
              << " tensors are not used: " << train::first_of(run.unused) << "\n";
  return run;
}

Embeddings embed_dataset(const Run& run, const data::Dataset& dataset) {
  train::ProgressLine line;
  return run.model->embed_dataset(dataset, [&](std::size_t done, std::size_t total) {
    line.update("embedding", static_cast<double>(done), static_cast<double>(total), "studies", "",
                done == total);
  });
}

static void note_cut(std::size_t cut, const std::string& what) {
  if (cut > 0)
    std::cerr << "note: " << what << ": " << cut << (cut == 1 ? " text is" : " texts are")
              << " longer than the model reads, and cut\n";
}

/// Says which words the vocabulary lacks.
static void note_unknown(const Run& run, const std::vector<std::string>& texts,
                         const std::string& what) {
  std::set<std::string> unknown;
  for (const auto& text : texts)
    for (const auto& word : data::basic_tokens(data::clean_text(text, run.cleaning()))) {
      const auto ids = run.vocabulary.encode(word);
      if (std::find(ids.begin(), ids.end(), run.vocabulary.unk) != ids.end())
        unknown.insert("'" + word + "'");
    }
  if (!unknown.empty())
    std::cerr << "note: " << what << ": the run has never read the words "
              << train::first_of(unknown) << "; it takes them all for the same unknown word\n";
}

EncodedTexts encode_texts(const Run& run, const std::vector<std::string>& texts,
                          const std::string& what) {
  note_lost(texts, run.cleaning(), what);
  note_unknown(run, texts, what);
  auto encoded = run.model->encode_texts(texts);
  note_cut(encoded.cut, what);
  return encoded;
}

EncodedPrompts encode_prompts(const Run& run, const std::vector<task::LabelPrompts>& prompts) {
  for (const auto& p : prompts)
    for (const auto* side : {&p.positive, &p.negative}) {
      note_lost(*side, run.cleaning(), "the prompts of '" + p.label + "'");
      note_unknown(run, *side, "the prompts of '" + p.label + "'");
    }
  auto encoded = run.model->encode_prompts(prompts);
  note_cut(encoded.texts.cut, "the prompts");
  return encoded;
}

/// @throws Error where the run's system does not write impressions from `source`.
static void need_branch(const Run& run, bool there, const char* source, const char* systems) {
  if (!there)
    fail("app", "run",
         run.folder.string() + ": a run of the system " + run.config.system +
             ", which does not write impressions from " + source,
         std::string(systems) + " does");
}

static std::vector<std::string> decode_all(const Run& run, const task::Generated& g) {
  static bool said = false;
  if (!g.not_recorded.empty() && !std::exchange(said, true))
    std::cerr << "note: texts are written kernel by kernel, since a step could not be recorded: "
              << g.not_recorded << "\n";
  std::vector<std::string> out;
  for (const auto& ids : g.ids) out.push_back(run.vocabulary.decode(ids));
  return out;
}
std::vector<std::string> caption(const Run& run, const Images& images) {
  need_branch(run, run.system.parts.captioning, "images", "hybridmed or coca");
  return decode_all(run, run.model->caption(images, {run.config.model.t_impression - 1, true}));
}
std::vector<std::string> summarize(const Run& run, const SectionView& findings) {
  need_branch(run, run.system.parts.summarization, "findings", "hybridmed");
  return decode_all(run, run.model->summarize(findings, {run.config.model.t_impression - 1, true}));
}

double log_scale(const Run& run) {
  if (!run.log_scale)
    fail("app", "run", run.weights.string() + ": holds no log_scale, the scale of its contrast",
         "calibration starts from it");
  return *run.log_scale;
}

void note_lost(const std::vector<std::string>& texts, data::Cleaning cleaning,
               const std::string& what) {
  data::CleaningLoss loss;
  for (const auto& text : texts) loss += data::cleaning_loss(text, cleaning);
  if (loss.letters > 0)
    std::cerr << "note: " << loss.letters << " letters and digits beyond ASCII in " << what
              << " are dropped by the run's cleaning\n";
  if (loss.bytes > 0)
    std::cerr << "note: " << loss.bytes << " bytes in " << what
              << " are no UTF-8 and cannot be read\n";
}

std::set<std::uint64_t> hashes_of(const Run& run, const char* name) {
  std::set<std::uint64_t> out;
  const auto file = run.folder / name;
  std::size_t number = 0;
  for (const auto& line : data::split_names(io::read_text(file), "\n")) {
    ++number;
    std::uint64_t h = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), h);
    if (error != std::errc() || end != line.data() + line.size())
      fail("app", "run",
           file.string() + ", entry " + std::to_string(number) + ": expected a hash, got '" +
               line.substr(0, 40) + "'",
           "give back the file that the run wrote");
    out.insert(h);
  }
  return out;
}

std::string chosen_split(const data::DataFolder& folder, const std::string& asked,
                         const std::string& usual) {
  if (asked.empty()) return folder.has_split(usual) ? usual : std::string();
  if (!folder.has_splits())
    fail("app", "split",
         folder.root().string() + ": --split " + asked + ", but the folder has no splits",
         "without --split all of its studies are looked at");
  return asked;
}

std::size_t known_studies(const data::Dataset& dataset, const std::set<std::uint64_t>& hashes) {
  return static_cast<std::size_t>(
      std::count_if(dataset.studies().begin(), dataset.studies().end(),
                    [&](const auto& s) { return hashes.count(train::text_hash(s.id)) > 0; }));
}

std::string most_frequent_impression(const Run& run, const std::set<std::uint64_t>& seen) {
  const auto file = run.folder / "most_frequent_impression.txt";
  std::string text = io::read_text(file);
  if (text.ends_with('\n')) text.pop_back();
  if (text.empty() ? !seen.empty() : !seen.count(train::text_hash(text)))
    fail("app", "run",
         file.string() + ": its text is not among the training impressions of " +
             (run.folder / "seen_impressions.txt").string(),
         "give back the files that the run wrote");
  return text;
}

data::FolderOptions folder_options(data::FolderOptions base, const TableOptions& o) {
  std::set<std::string> keys;
  base.visit([&](std::string_view key, auto&) { keys.emplace(key); });
  if (!o.config.empty()) {
    train::RunConfig::read(o.config);  // its keys exist and have the right kinds
    io::Json mine = io::Json::object();
    const io::Json all = io::read_json(o.config);
    for (const auto& item : all.items())
      if (keys.count(item.key())) mine[item.key()] = item.value();
    io::from_json(mine, base, o.config);
  }
  for (const auto& assignment : o.overrides) {
    const std::string key = assignment.substr(0, assignment.find('='));
    std::string list;
    for (const auto& k : keys) list += (list.empty() ? "" : ", ") + k;
    if (assignment.find('=') != assignment.npos && !key.empty() && !keys.count(key))
      fail("app", "options",
           "--set " + key + ": here only the keys of a data folder can be set: " + list,
           "everything else belongs to the run; " +
               data::did_you_mean(key, {keys.begin(), keys.end()}));
  }
  io::override_keys(base, o.overrides);
  base.validate();
  return base;
}

}  // namespace hybridmed::app
