#pragma once
// Everything a run is told: the model's keys, the data, the stages. One flat JSON object; unknown
// keys are errors.
#include <tuple>

#include "hybridmed/data/loader.hpp"
#include "hybridmed/io/checksum.hpp"
#include "hybridmed/io/config.hpp"
#include "hybridmed/model/config.hpp"

namespace hybridmed::train {

/// The keys of stage k, from 0, of n. A system with one stage reads the keys of the last.
struct StageKeys {
  std::size_t number;  ///< as people count
  const char *epochs, *rate;

  StageKeys(std::size_t k, std::size_t n)
      : number(k + 1),
        epochs(k + 1 < n ? "epochs_stage1" : "epochs_stage2"),
        rate(k + 1 < n ? "lr_stage1" : "lr_stage2") {
    if (n > 2)
      fail("train", "config", "a system of " + std::to_string(n) + " stages: expected 1 or 2");
  }
  std::string stage_text() const { return "stage " + std::to_string(number); }
};

struct RunConfig {
  model::Config model;
  std::string system = "hybridmed";  // what is trained, see hybridmed/system/
  // data
  std::string data, split_train = "train", split_valid = "valid";
  data::FolderOptions folder;        // its tables: names, columns, how they are written
  std::string sections = "any";      // any: losses use what is there | both: only studies with both
  std::string cleaning = "default";  // default | gloria | none
  std::string vocab_file;            // empty: train a WordPiece vocabulary on the training split
  Index vocab_size = 2000;           // of a trained vocabulary
  Index resize = 0;                  // long side after resizing; 0: 8/7 of image_size
  double jitter_contrast = 0, jitter_brightness = 0, jitter_rotation = 0,
         jitter_scale = 0;  // see data::TransformOptions
  Index workers = 1, cache_mb = 1024;
  // training
  Index batch = 32, epochs_stage1 = 10, epochs_stage2 = 50;
  double lr_stage1 = 3e-4, lr_stage2 = 3e-4, warmup = 0.05, lr_floor = 1e-8, weight_decay = 0.05,
         clip = 1.0;
  Index patience = 5;          // epochs without a better validation loss; 0: never stop early
  Index checkpoint_every = 0;  // steps; 0: at the end of each epoch
  Index keep_checkpoints = 2;
  bool overfit_batch = false;  // train on the first batch again and again, without augmentation
  std::string precision = "float";  // float | double | bf16
  Index seed = 0;

  /// Calls f(Key, field) for every key, in declaration order.
  template <class F>
  void visit(F&& f) {
    model.visit(f);
    constexpr Range count = between(0, 1e9), share = at_least(0);
    constexpr Keys in{"Data"};
    f(in("data", anything(), "data folder"), data);
    f(in("split_train", not_empty(), "split that is trained on"), split_train);
    f(in("split_valid", not_empty(), "split that is validated on"), split_valid);
    folder.visit(f);
    f(in("sections", one_of("any|both"),
         "any: each loss uses the studies that have what it needs; both: only studies with "
         "findings "
         "and impression"),
      sections);
    f(in("cleaning", one_of("default|gloria|none"), "how texts are cleaned"), cleaning);
    f(in("vocab_file", anything(),
         "WordPiece vocabulary, a token a line; empty: one is learned from the training split"),
      vocab_file);
    f(in("vocab_size", anything(), "tokens of a vocabulary that is learned, at least 8"),
      vocab_size);
    f(in("resize", between(0, 32768),
         "longer side of an image before it is cropped; 0: 8/7 of image_size"),
      resize);
    f(in("jitter_contrast", between(0, 1), "contrast of a training image changes by up to this"),
      jitter_contrast);
    f(in("jitter_brightness", between(0, 2),
         "brightness changes by up to this, where -1 to 1 is black to white"),
      jitter_brightness);
    f(in("jitter_rotation", between(0, 180), "an image turns by up to this many degrees"),
      jitter_rotation);
    f(in("jitter_scale", between(0, 0.9), "an image grows or shrinks by up to this share"),
      jitter_scale);
    f(in("workers", between(0, static_cast<double>(data::Loader::most_workers)),
         "threads that read images"),
      workers);
    f(in("cache_mb", between(0, 16777216), "memory for decoded images, in MB"), cache_mb);
    constexpr Keys training{"Training"};
    f(training("system", not_empty(),
               "what is trained: hybridmed, clip, siglip, convirt, gloria, mgca or coca"),
      system);
    f(training("batch", between(1, 1e9), "studies of a step"), batch);
    f(training("epochs_stage1", count,
               "epochs of stage 1, where the system has two: the teacher learns to summarize"),
      epochs_stage1);
    f(training("epochs_stage2", count,
               "epochs of stage 2: all terms; of a system with one stage, of that"),
      epochs_stage2);
    f(training("lr_stage1", share, "learning rate of stage 1 after the warm-up"), lr_stage1);
    f(training("lr_stage2", share, "learning rate of stage 2 after the warm-up"), lr_stage2);
    f(training("warmup", between(0, 1), "share of a stage's steps in which the rate rises"),
      warmup);
    f(training("lr_floor", share, "learning rate at the end of a stage"), lr_floor);
    f(training("weight_decay", between(0, 100), "decoupled decay of the weight matrices"),
      weight_decay);
    f(training("clip", share, "largest gradient norm of a step; 0: no limit"), clip);
    f(training("patience", count,
               "epochs without a better validation loss before a stage ends; 0: never"),
      patience);
    f(training("checkpoint_every", count,
               "steps between checkpoints; 0: one at the end of each epoch"),
      checkpoint_every);
    f(training("keep_checkpoints", between(1, 1e9), "checkpoints that are kept"), keep_checkpoints);
    f(training("overfit_batch", anything(),
               "train on the first batch again and again, without augmentation"),
      overfit_batch);
    f(training("precision", one_of("float|double|bf16"),
               "numbers that are computed with; with bf16, weights, sums and losses stay in float"),
      precision);
    f(training("seed", at_least(0), "seed of every random number"), seed);
  }

  /// Throws Error naming the first key whose value cannot work: alone (`visit`), or with others.
  void validate() const {
    model.validate();
    folder.validate();
    check_keys(*this, "train", "config");
    const auto need = [](bool ok, const char* key, const std::string& why) {
      if (!ok) fail("train", "config", std::string(key) + ": " + why);
    };
    need(!data.empty(), "data", "not set; give a data folder, e.g. --set data=FOLDER");
    need(overfit_batch || data::split_key(split_train) != data::split_key(split_valid),
         "split_valid",
         "'" + split_valid +
             "', which is split_train too: a validation on training studies chooses nothing");
    need(resize == 0 || resize >= model.image_size, "resize",
         "expected at least image_size = " + std::to_string(model.image_size) + ", got " +
             std::to_string(resize));
    for (const auto& [epochs, key, rate] : {std::tuple{epochs_stage1, "lr_stage1", lr_stage1},
                                            std::tuple{epochs_stage2, "lr_stage2", lr_stage2}})
      need(epochs == 0 || rate == 0 || lr_floor <= rate, "lr_floor",
           std::string("expected at most ") + key + ": the rate falls to it");
    need(clip == 0 || clip >= 1e-6, "clip",
         "expected 0 (gradients are not clipped) or a norm of at least 1e-6: nothing is learned "
         "below");
    need(!vocab_file.empty() || vocab_size >= 8, "vocab_size",
         "expected at least 8, got " + std::to_string(vocab_size));
    need(epochs_stage1 + epochs_stage2 > 0, "epochs_stage1, epochs_stage2",
         "expected at least one epoch");
  }

  /// Of stage k, from 0, of n.
  Index epochs(std::size_t k, std::size_t n) const {
    return k + 1 < n ? epochs_stage1 : epochs_stage2;
  }
  /// Stages up to the last that is trained, of n.
  std::size_t trained_stages(std::size_t n) const {
    while (n > 1 && epochs(n - 1, n) == 0) --n;
    return n;
  }
  double rate(std::size_t k, std::size_t n) const { return k + 1 < n ? lr_stage1 : lr_stage2; }

  data::StudySelection selection(const std::string& split) const {
    return {split, sections == "both", true, data::cleaning_from(cleaning)};
  }
  data::DatasetOptions dataset() const {
    data::DatasetOptions o;
    o.transform.image_size = static_cast<std::size_t>(model.image_size);
    o.transform.resize = static_cast<std::size_t>(resize ? resize : (model.image_size * 8 + 3) / 7);
    o.transform.jitter_contrast = jitter_contrast;
    o.transform.jitter_brightness = jitter_brightness;
    o.transform.jitter_rotation = jitter_rotation;
    o.transform.jitter_scale = jitter_scale;
    o.t_findings = static_cast<std::size_t>(model.t_findings);
    o.t_impression = static_cast<std::size_t>(model.t_impression);
    o.cache_bytes = static_cast<std::size_t>(cache_mb) << 20;
    return o;
  }

  /// Reads a file; its optional key "preset" names the model configuration that the other keys
  /// change.
  static RunConfig read(const std::filesystem::path& path) {
    RunConfig c;
    io::Json j = io::read_json(path);
    if (j.is_object() && j.contains("preset")) {
      const auto preset = io::get<std::string>(j, "preset", path.string());
      try {
        c.model = model::Config::preset(preset);
      } catch (const Error& e) {
        fail("train", "config", path.string() + ": " + e.reason(), e.hint());
      }
      j.erase("preset");
    }
    io::from_json(j, c, path.string());
    return c;
  }
};

/// The vocabulary that a run learns from its training studies.
inline data::Tokenizer learned_vocabulary(const std::vector<data::Study>& studies,
                                          const RunConfig& config) {
  std::vector<std::string> texts;
  for (const auto& s : studies) {
    texts.push_back(s.findings);
    texts.push_back(s.impression);
  }
  return data::train_wordpiece(texts,
                               static_cast<std::size_t>((std::max)(config.vocab_size, Index{8})));
}

/// Where a run keeps its tokenizer.
inline std::filesystem::path tokenizer_file(const std::filesystem::path& run) {
  return run / "vocab.txt";
}

/// Hash of that file.
inline std::uint64_t vocabulary_hash(const std::filesystem::path& run) {
  return io::checksum(io::read_file(tokenizer_file(run)));
}

/// What weights belong to: the keys of a configuration that change what they compute, and the
/// vocabulary.
inline std::map<std::string, std::string> weights_metadata(const RunConfig& config,
                                                           std::uint64_t vocabulary) {
  io::Json keys = io::to_json(config.model);
  keys["system"] = config.system;
  keys["cleaning"] = config.cleaning;
  keys["resize"] = config.resize;
  return {{"config", keys.dump()}, {"vocabulary", std::to_string(vocabulary)}};
}

}  // namespace hybridmed::train
