#pragma once
// Everything a run is told: the model's keys, the data, both stages. One flat JSON object; unknown
// keys are errors.
#include <cmath>
#include <cstdio>
#include <tuple>

#include "hybridmed/data/loader.hpp"
#include "hybridmed/io/checksum.hpp"
#include "hybridmed/io/config.hpp"
#include "hybridmed/model/config.hpp"

namespace hybridmed::train {

struct RunConfig {
  model::Config model;
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
  std::string precision = "float";  // float | double
  Index seed = 0;

  template <class F>
  void visit(F&& f) {
    model.visit(f);
    f("data", data), f("split_train", split_train), f("split_valid", split_valid);
    folder.visit(f);
    f("sections", sections), f("cleaning", cleaning), f("vocab_file", vocab_file),
        f("vocab_size", vocab_size), f("resize", resize);
    f("jitter_contrast", jitter_contrast), f("jitter_brightness", jitter_brightness),
        f("jitter_rotation", jitter_rotation), f("jitter_scale", jitter_scale),
        f("workers", workers), f("cache_mb", cache_mb);
    f("batch", batch), f("epochs_stage1", epochs_stage1), f("epochs_stage2", epochs_stage2),
        f("lr_stage1", lr_stage1), f("lr_stage2", lr_stage2);
    f("warmup", warmup), f("lr_floor", lr_floor), f("weight_decay", weight_decay), f("clip", clip),
        f("patience", patience);
    f("checkpoint_every", checkpoint_every), f("keep_checkpoints", keep_checkpoints),
        f("overfit_batch", overfit_batch), f("precision", precision), f("seed", seed);
  }

  void validate() const {
    model.validate();
    const auto text_of = [](double x) {
      char text[32];
      std::snprintf(text, sizeof text, "%g", x);
      return std::string(text);
    };
    const auto need = [](bool ok, const char* key, const std::string& why) {
      if (!ok) fail("train", "config", std::string(key) + ": " + why);
    };
    need(!data.empty(), "data", "not set; give a data folder, e.g. --set data=FOLDER");
    need(sections == "any" || sections == "both", "sections",
         "expected any or both, got '" + sections + "'");
    need(precision == "float" || precision == "double", "precision",
         "expected float or double, got '" + precision + "'");
    data::cleaning_from(cleaning);
    folder.validate();
    need(overfit_batch || data::split_key(split_train) != data::split_key(split_valid),
         "split_valid",
         "'" + split_valid +
             "', which is split_train too: a validation on training studies chooses nothing");
    for (const auto& [key, v] : {std::pair{"batch", batch}, {"keep_checkpoints", keep_checkpoints}})
      need(v > 0, key, "expected at least 1, got " + std::to_string(v));
    for (const auto& [key, v] : {std::pair{"epochs_stage1", epochs_stage1},
                                 {"epochs_stage2", epochs_stage2},
                                 {"patience", patience},
                                 {"workers", workers},
                                 {"cache_mb", cache_mb},
                                 {"checkpoint_every", checkpoint_every},
                                 {"resize", resize}})
      need(v >= 0 && v < (Index{1} << 40), key,
           "expected 0 to " + std::to_string((Index{1} << 40) - 1) + ", got " + std::to_string(v));
    need(workers <= data::Loader::most_workers, "workers",
         "expected at most " + std::to_string(data::Loader::most_workers) + ", got " +
             std::to_string(workers));
    need(resize <= 32768, "resize", "expected at most 32768, got " + std::to_string(resize));
    need(cache_mb <= (Index{1} << 24), "cache_mb",
         "expected at most 16777216, got " + std::to_string(cache_mb));
    need(epochs_stage1 == 0 || model.lambda_sum > 0, "lambda_sum",
         "expected above 0: stage 1 trains nothing else, so it cannot learn; epochs_stage1=0 "
         "leaves it out");
    need(epochs_stage2 == 0 || model.lambda_cg + model.lambda_cl + model.lambda_sum +
                                       model.lambda_cap + model.lambda_dis >
                                   0,
         "lambda_cg, lambda_cl, lambda_sum, lambda_cap, lambda_dis",
         "all 0: stage 2 cannot learn; epochs_stage2=0 leaves it out");
    need(epochs_stage2 == 0 || batch > 1 ||
             model.lambda_sum + model.lambda_cap + model.lambda_dis > 0,
         "batch",
         "1, with nothing but contrastive terms: they compare the samples of a batch, so nothing "
         "is learned");
    need(resize == 0 || resize >= model.image_size, "resize",
         "expected at least image_size = " + std::to_string(model.image_size) + ", got " +
             std::to_string(resize));
    for (const auto& [key, v] : {std::pair{"lr_stage1", lr_stage1},
                                 {"lr_stage2", lr_stage2},
                                 {"weight_decay", weight_decay},
                                 {"clip", clip},
                                 {"warmup", warmup},
                                 {"lr_floor", lr_floor}})
      need(v >= 0 && std::isfinite(v), key, "expected a number of at least 0");
    for (const auto& [epochs, key, rate] : {std::tuple{epochs_stage1, "lr_stage1", lr_stage1},
                                            std::tuple{epochs_stage2, "lr_stage2", lr_stage2}})
      need(epochs == 0 || rate == 0 || lr_floor <= rate, "lr_floor",
           std::string("expected at most ") + key + ": the rate falls to it");
    need(clip == 0 || clip >= 1e-6, "clip",
         "expected 0 (gradients are not clipped) or a norm of at least 1e-6: nothing is learned "
         "below");
    need(weight_decay <= 100, "weight_decay",
         "expected at most 100: it takes that share of a weight, times the learning rate, at each "
         "step");
    need(!vocab_file.empty() || vocab_size >= 8, "vocab_size",
         "expected at least 8, got " + std::to_string(vocab_size));
    need(epochs_stage1 + epochs_stage2 > 0, "epochs_stage1, epochs_stage2",
         "expected at least one epoch");
    need(seed >= 0, "seed", "expected at least 0, got " + std::to_string(seed));
    need(warmup <= 1, "warmup",
         "expected a share of the steps, 0 to 1, got " + std::to_string(warmup));
    struct Range {
      const char* key;
      double value, most;
      const char* text;
    };
    for (const Range& r : {Range{"jitter_contrast", jitter_contrast, 1, "1"},
                           {"jitter_brightness", jitter_brightness, 2, "2"},
                           {"jitter_rotation", jitter_rotation, 180, "180 (degrees)"},
                           {"jitter_scale", jitter_scale, 0.9, "0.9"}})
      need(r.value >= 0 && r.value <= r.most, r.key,
           std::string("expected a number from 0 to ") + r.text + ", got " + text_of(r.value));
  }

  /// What can be meant, and probably is not.
  std::vector<std::string> warnings() const {
    std::vector<std::string> out;
    if (epochs_stage2 > 0 && batch == 1 && model.lambda_cg + model.lambda_cl > 0)
      out.push_back(
          "batch = 1: the contrastive terms (cg, cl) compare the samples of a batch; of one sample "
          "they learn nothing");
    for (const auto& [stage, epochs, rate] :
         {std::tuple{1, epochs_stage1, lr_stage1}, std::tuple{2, epochs_stage2, lr_stage2}})
      if (epochs > 0 && rate == 0)
        out.push_back("lr_stage" + std::to_string(stage) + " = 0: stage " + std::to_string(stage) +
                      " learns nothing");
    return out;
  }

  data::StudySelection selection(const std::string& split) const {
    return {split, sections == "both", true, data::cleaning_from(cleaning)};
  }
  data::DatasetOptions dataset() const {
    data::DatasetOptions o;
    o.transform.image_size = static_cast<std::size_t>(model.image_size);
    o.transform.resize = static_cast<std::size_t>(resize ? resize : (model.image_size * 8 + 3) / 7);
    o.transform.jitter_contrast = jitter_contrast,
    o.transform.jitter_brightness = jitter_brightness;
    o.transform.jitter_rotation = jitter_rotation, o.transform.jitter_scale = jitter_scale;
    o.t_findings = static_cast<std::size_t>(model.t_findings),
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
      try {
        c.model = model::Config::preset(io::get<std::string>(j, "preset", path.string()));
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
inline data::WordPiece learned_vocabulary(const std::vector<data::Study>& studies,
                                          const RunConfig& config) {
  std::vector<std::string> texts;
  for (const auto& s : studies) texts.push_back(s.findings), texts.push_back(s.impression);
  return data::train_wordpiece(texts,
                               static_cast<std::size_t>((std::max)(config.vocab_size, Index{8})));
}

/// Hash of a run's vocab.txt.
inline std::uint64_t vocabulary_hash(const std::filesystem::path& run) {
  return io::checksum(io::read_file(run / "vocab.txt"));
}

/// What weights belong to: the keys of a configuration that change what they compute, and the
/// vocabulary.
inline std::map<std::string, std::string> weights_metadata(const RunConfig& config,
                                                           std::uint64_t vocabulary) {
  io::Json keys = io::to_json(config.model);
  keys["cleaning"] = config.cleaning, keys["resize"] = config.resize;
  return {{"config", keys.dump()}, {"vocabulary", std::to_string(vocabulary)}};
}

}  // namespace hybridmed::train
